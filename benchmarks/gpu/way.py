"""A way from a client to an engine."""

from __future__ import annotations

from typing import NamedTuple


class Way(NamedTuple):
    """How requests come to the engine: the URL and model to ask, and the relay on the way, where there is one."""

    url: str
    model: str
    relay: str | None = None
