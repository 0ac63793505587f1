"""What differs between the rows of one version and those of the next. Knows nothing of how they are indexed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.errors import InputError
from data.records import Row


@dataclass(frozen=True)
class Changes:
    """How `rows` come of `old`.

    Attributes:
        rows: The new rows, in order.
        old: The rows before; none where all are new.
        same: The ids of the rows that are in both with the same content, to their places in `old`.
        new: The places in `rows` of the others: added or changed.
        removed: The ids of the old rows that are gone.
    """

    rows: Sequence[Row]
    old: Sequence[Row]
    same: Mapping[str, int]
    new: Sequence[int]
    removed: Sequence[str]

    @property
    def num_changed(self) -> int:
        """How many rows have another answer than before, or another spelling of the question."""
        before = {row.row_id for row in self.old}
        return sum(self.rows[place].row_id in before for place in self.new)

    @property
    def num_edits(self) -> int:
        """How many rows were added, changed or removed."""
        return len(self.new) + len(self.removed)

    @property
    def keeps_questions(self) -> bool:
        """Whether the questions are the same, in the same order."""
        return [row.question for row in self.old] == [row.question for row in self.rows]


def compare_rows(rows: Sequence[Row], old: Sequence[Row]) -> Changes:
    """Return how `rows` come of `old`.

    Raises:
        InputError: two of `rows` have the same id.
    """
    place_of: dict[str, int] = {}
    for place, row in enumerate(rows):
        if (first := place_of.setdefault(row.row_id, place)) != place:
            raise InputError(
                f"{row.source}: the same question as {rows[first].source}; run `groundtune data prepare` again"
            )
    same, removed = {}, []
    for old_place, before in enumerate(old):
        if (now := place_of.get(before.row_id)) is None:
            removed.append(before.row_id)
        # Equal lines of rows.jsonl are read as one record.
        elif rows[now] is before or _content(rows[now]) == _content(before):
            same[before.row_id] = old_place
    new = [place for place, row in enumerate(rows) if row.row_id not in same]
    return Changes(rows, old, same, new, removed)


def _content(row: Row) -> tuple[str, ...]:
    """Return all of a row but where it stands, which changes when a row is put in above."""
    return row.row_id, row.revision, row.info_1, row.info_2, row.question, row.answer
