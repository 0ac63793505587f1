"""Comparing two lists of rows: which is which, and what became of it.

Rows are matched by their id (info_1, info_2 and Q, as they are compared), then by equal answers whose questions
are alike, then by questions that are the same in other words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from data.records import Row, row_id_of
from data.similarity import NEAR_DUPLICATE, asks_the_same, grams, similar_pairs, similarity
from data.wording import words

ChangeKind = Literal["added", "removed", "revised", "reworded", "rewritten", "moved"]
CHANGE_KINDS: tuple[ChangeKind, ...] = ("added", "removed", "revised", "reworded", "rewritten", "moved")

# With the same answer, questions this alike are one question reworded; and with an answer of this many
# characters that nobody else has, whatever their wording.
_REWORDED = 0.4
_TELLING_ANSWER_CHARACTERS = 20


@dataclass(frozen=True)
class Change:
    """One row's change.

    `revised`: the same question with another answer; `reworded`: the same answer to a question, or under an
    info_1 or info_2, that is written otherwise; `rewritten`: both; `moved`: only its place among the others.
    `similarity` is that of the two questions.
    """

    kind: ChangeKind
    old: Row | None
    new: Row | None
    similarity: float = 1.0

    @property
    def row(self) -> Row:
        """The row as it is now, or was last."""
        row = self.new or self.old
        assert row is not None
        return row


@dataclass(frozen=True)
class Diff:
    """All changes: those with a new row in its order, then the removed in theirs."""

    changes: tuple[Change, ...]
    num_old: int
    num_new: int
    num_unchanged: int

    def of_kind(self, kind: ChangeKind) -> list[Change]:
        """Return the changes of one kind."""
        return [change for change in self.changes if change.kind == kind]


def diff_rows(old: Sequence[Row], new: Sequence[Row]) -> Diff:
    """Return what changed from `old` to `new`; ids must be unique within each."""
    before = {row.row_id: row for row in old}
    after = {row.row_id: row for row in new}
    kept = [row_id for row_id in after if row_id in before]
    moved = _moved(kept, list(before))
    changes: list[Change] = []
    for row_id in kept:
        if before[row_id].revision != after[row_id].revision:
            changes.append(Change("revised", before[row_id], after[row_id]))
        elif row_id in moved:
            changes.append(Change("moved", before[row_id], after[row_id]))
    num_unchanged = len(kept) - len(changes)
    matched = _match(
        [row for row in old if row.row_id not in after], [row for row in new if row.row_id not in before]
    )
    gone = {change.old.row_id for change in matched if change.old}
    came = {change.new.row_id for change in matched if change.new}
    changes += matched
    changes += [
        Change("added", None, row) for row in new if row.row_id not in before and row.row_id not in came
    ]
    order = {row.row_id: place for place, row in enumerate(new)}
    changes.sort(key=lambda change: order[change.row.row_id])
    changes += [
        Change("removed", row, None) for row in old if row.row_id not in after and row.row_id not in gone
    ]
    return Diff(tuple(changes), len(before), len(after), num_unchanged)


def _moved(kept: Sequence[str], old_order: Sequence[str]) -> set[str]:
    """Return the ids that changed places: all but a longest run that stands in the same order as before."""
    place = {row_id: number for number, row_id in enumerate(old_order)}
    ends: list[int] = []
    lengths: list[int] = []
    for row_id in kept:
        length = bisect_left(ends, place[row_id])
        ends[length : length + 1] = [place[row_id]]
        lengths.append(length)
    staying: set[str] = set()
    wanted, below = len(ends) - 1, len(place)
    for row_id, length in zip(reversed(kept), reversed(lengths), strict=True):
        if length == wanted and place[row_id] < below:
            staying.add(row_id)
            wanted, below = wanted - 1, place[row_id]
    return set(kept) - staying


def _match(removed: Sequence[Row], added: Sequence[Row]) -> list[Change]:
    """Pair rows whose ids differ; each row is in at most one pair, the most alike first."""
    changes: list[Change] = []
    free_old = {row.row_id: row for row in removed}
    free_new = {row.row_id: row for row in added}

    def take(candidates: Iterable[tuple[float, Row, Row]], both_changed: bool) -> None:
        for alike, one, other in sorted(candidates, key=lambda c: (-c[0], c[1].row_id, c[2].row_id)):
            if one.row_id in free_old and other.row_id in free_new:
                del free_old[one.row_id], free_new[other.row_id]
                kind: ChangeKind = "reworded"
                if both_changed:
                    # The second of two conflicting answers has an id of its own, and is the same question still.
                    kind = "revised" if _question_id(one) == _question_id(other) else "rewritten"
                changes.append(Change(kind, one, other, alike))

    take(_same_answer(removed, added), both_changed=False)
    take(_same_question(list(free_old.values()), list(free_new.values())), both_changed=True)
    return changes


def _same_answer(removed: Sequence[Row], added: Sequence[Row]) -> list[tuple[float, Row, Row]]:
    by_answer: dict[str, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for row in removed:
        by_answer[row.revision][0].append(row)
    for row in added:
        by_answer[row.revision][1].append(row)
    found = []
    for olds, news in by_answer.values():
        telling = len(olds) == len(news) == 1 and len(olds[0].answer) >= _TELLING_ANSWER_CHARACTERS
        new_grams = [grams(row.question) for row in news]
        for one in olds:
            old_grams = grams(one.question)
            for other, other_grams in zip(news, new_grams, strict=True):
                alike = similarity(old_grams, other_grams)
                if telling or alike >= _REWORDED:
                    found.append((alike, one, other))
    return found


def _same_question(removed: Sequence[Row], added: Sequence[Row]) -> list[tuple[float, Row, Row]]:
    rows = [*removed, *added]
    forms = [words(row.question) for row in rows]
    found = []
    for pair in similar_pairs([grams(row.question) for row in rows], NEAR_DUPLICATE):
        across = pair.left < len(removed) <= pair.right
        if across and asks_the_same(forms[pair.left], forms[pair.right], pair.similarity):
            found.append((pair.similarity, rows[pair.left], rows[pair.right]))
    return found


def _question_id(row: Row) -> str:
    return row_id_of(row.info_1, row.info_2, row.question)
