"""Time, as the gateway is given it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """`now_s` tells the time since 1970 in seconds; `elapsed_s` only ever grows."""

    now_s: Callable[[], float]
    elapsed_s: Callable[[], float]
