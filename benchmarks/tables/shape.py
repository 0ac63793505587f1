"""What a section of docs/benchmarks.md is, and the little that all of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """How one result file is shown.

    Attributes:
        file: Its name under benchmarks/results/, without .json; a picture of that name is shown with it.
        title: The section's heading.
        lines: The README's lines: (what was measured, the figure).
        body: The section's tables and sentences, in Markdown.
    """

    file: str
    title: str
    lines: Callable[[Result], list[tuple[str, str]]]
    body: Callable[[Result], str]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percent(share: float | None) -> str:
    """Return a share as whole percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.0f}%"
