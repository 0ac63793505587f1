"""Merged cells: the value of the first one fills all that it covers, as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data.sheets import limits
from data.sheets.model import PLAIN, Mark, cell_name


@dataclass(frozen=True)
class Merge:
    """A merged range: 1-based rows and 0-based columns, both ends in it."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int

    def overlaps(self, other: Merge) -> bool:
        """Say whether a cell is in both."""
        return (
            self.first_row <= other.last_row
            and other.first_row <= self.last_row
            and self.first_column <= other.last_column
            and other.first_column <= self.last_column
        )


class Filler:
    """Fills the rows of a sheet, given from the top.

    A row that holds nothing of its own is left as it is: filled, it would be a row that nobody wrote.
    """

    def __init__(self, merges: Sequence[Merge]) -> None:
        self._waiting = sorted(merges, key=lambda merge: merge.first_row, reverse=True)
        self._open: list[tuple[Merge, str, Mark]] = []

    def fill(self, number: int, texts: list[str], marks: dict[int, Mark]) -> None:
        """Put the merged values into row `number`, in place."""
        while self._waiting and self._waiting[-1].first_row <= number:
            merge = self._waiting.pop()
            column = merge.first_column
            if merge.first_row < number or column >= len(texts) or not texts[column]:
                continue
            if any(merge.overlaps(other) for other, _, _ in self._open):
                # Excel writes none; the first one counts.
                continue
            kind = marks.get(column, PLAIN).kind
            mark = Mark(kind, merged_from=cell_name(number, column))
            self._open.append((merge, texts[column], mark))
        if not self._open:
            return
        self._open = [item for item in self._open if item[0].last_row >= number]
        if not any(texts):
            return
        for merge, text, mark in self._open:
            first = merge.first_column + (number == merge.first_row)
            last = min(merge.last_column, merge.first_column + limits.MAX_MERGED_COLUMNS - 1)
            for column in range(first, last + 1):
                if column >= len(texts):
                    texts.extend([""] * (column + 1 - len(texts)))
                if not texts[column]:
                    texts[column] = text
                    marks[column] = mark
