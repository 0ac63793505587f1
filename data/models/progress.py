"""How long work reports itself to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], None]
"""Told how much more of a stage is done, in the stage's units."""

Stage = Callable[[str, int], Advance]
"""Begins a stage with a description and its total; several may run at the same time."""


def no_progress(_: int) -> None:
    """The `Advance` of a caller that does not watch."""


def no_stages(_description: str, _total: int) -> Advance:
    """The `Stage` of a caller that does not watch."""
    return no_progress
