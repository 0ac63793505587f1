"""Dividing rows among training, validation and test so that nothing asked in one was learned in another.

Rows whose questions are alike are one cluster: at `threshold` or above by `data.similarity`, or by the same measure
over the letters as they stand. So are rows with the same long answer. Split by near-duplicates, whole clusters are
dealt out. Split by info_1 or info_2, whole categories are, and a row whose cluster reaches across the sides is left
out of the lesser side.

Which rows go where depends on the rows' ids and the seed, not on their order in the sheet.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data.errors import InputError
from data.records import Row, normalised
from data.similarity import Clusters, Grams, NearestIndex, grams, plain_grams, similar_pairs

Side = Literal["train", "validation", "test", "left out"]
SplitBy = Literal["near-duplicates", "info_1", "info_2"]

# A shorter answer (是, 请咨询医生) may be right for many questions and says nothing about them.
_TELLING_ANSWER_CHARACTERS = 20
# A group may be so much larger than what its side still lacks; a larger one is for training.
_OVERSHOOT = 1.5
# Which side gives up a row whose cluster is on two of them: the one named first.
_GIVES_WAY: tuple[Side, ...] = ("train", "validation")


@dataclass(frozen=True)
class NearestPair:
    """A held-out row and the row on another side whose question is most like its own."""

    held_out: Row
    other: Row
    similarity: float


@dataclass(frozen=True)
class Division:
    """`sides[i]` is where row i went; `nearest` the pairs across sides that are most alike, the most alike first."""

    sides: tuple[Side, ...]
    nearest: tuple[NearestPair, ...]

    def rows(self, all_rows: Sequence[Row], side: Side) -> list[Row]:
        """Return the rows of one side, in their order."""
        return [row for row, its_side in zip(all_rows, self.sides, strict=True) if its_side == side]

    @property
    def max_similarity(self) -> float:
        """The similarity of the two most alike questions on different sides."""
        return self.nearest[0].similarity if self.nearest else 0.0

    def num_at_or_above(self, threshold: float) -> int:
        """Return how many held-out rows have a question as alike as `threshold` on another side."""
        return sum(pair.similarity >= threshold for pair in self.nearest)


def divide_rows(
    rows: Sequence[Row], *, validation: float, test: float, by: SplitBy, threshold: float, seed: int
) -> Division:
    """Divide rows; `validation` and `test` are the shares of the rows that each should get.

    Raises:
        InputError: no group is small enough for a side, so that it would stay empty.
    """
    measures = [[measure(row.question) for row in rows] for measure in (grams, plain_grams)]
    clusters = _clusters(rows, measures, threshold)
    groups = _groups(rows, clusters, by)
    sides = _deal(rows, groups, {"test": test, "validation": validation}, seed)
    _give_way(sides, clusters)
    for side, share in (("test", test), ("validation", validation), ("train", 1.0)):
        if share and side not in sides:
            largest = max(len(group) for group in groups)
            raise InputError(
                f"split: no rows for {side}: the largest of {len(groups)} groups ({by}) has {largest} of "
                f"{len(rows)} rows; split by something finer, raise split.threshold, or ask for a larger share"
            )
    return Division(tuple(sides), tuple(_nearest_across(rows, measures, sides)))


def _clusters(rows: Sequence[Row], measures: Sequence[Sequence[Grams]], threshold: float) -> Clusters:
    clusters = Clusters(len(rows))
    for sets in measures:
        for pair in similar_pairs(sets, threshold):
            clusters.join(pair.left, pair.right)
    first_with_answer: dict[str, int] = {}
    for place, row in enumerate(rows):
        if len(row.answer) >= _TELLING_ANSWER_CHARACTERS:
            clusters.join(first_with_answer.setdefault(row.revision, place), place)
    return clusters


def _groups(rows: Sequence[Row], clusters: Clusters, by: SplitBy) -> list[list[int]]:
    """Return the places of the rows that go together; a row without the category goes with its cluster."""
    members: dict[str | int, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        category = "" if by == "near-duplicates" else normalised(row.info_1 if by == "info_1" else row.info_2)
        members[category or clusters.find(place)].append(place)
    return list(members.values())


def _deal(
    rows: Sequence[Row], groups: Sequence[list[int]], shares: dict[Side, float], seed: int
) -> list[Side]:
    def key(group: list[int]) -> str:
        name = min(rows[place].row_id for place in group)
        return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

    sides: list[Side] = ["train"] * len(rows)
    lacking = {side: round(share * len(rows)) for side, share in shares.items()}
    for group in sorted(groups, key=key):
        for side, number in lacking.items():
            if number > 0 and len(group) <= max(1.0, number * _OVERSHOOT):
                lacking[side] -= len(group)
                for place in group:
                    sides[place] = side
                break
    return sides


def _give_way(sides: list[Side], clusters: Clusters) -> None:
    """Leave out rows until every cluster is on one side; whole clusters are there already."""
    for side in _GIVES_WAY:
        above = ("validation", "test") if side == "train" else ("test",)
        taken = {clusters.find(place) for place, its_side in enumerate(sides) if its_side in above}
        for place, its_side in enumerate(sides):
            if its_side == side and clusters.find(place) in taken:
                sides[place] = "left out"


def _nearest_across(
    rows: Sequence[Row], measures: Sequence[Sequence[Grams]], sides: Sequence[Side]
) -> list[NearestPair]:
    """Return the nearest row on another side of each held-out row, by whichever measure finds it more alike."""
    found: dict[int, NearestPair] = {}
    compared: list[tuple[Side, tuple[Side, ...]]] = [
        ("validation", ("train",)),
        ("test", ("train", "validation")),
    ]
    for held_out, others in compared:
        places = [place for place, side in enumerate(sides) if side in others]
        for sets in measures:
            index = NearestIndex([sets[place] for place in places])
            for place, side in enumerate(sides):
                nearest = index.nearest(sets[place]) if side == held_out else None
                if nearest and (place not in found or nearest[1] > found[place].similarity):
                    found[place] = NearestPair(rows[place], rows[places[nearest[0]]], nearest[1])
    return sorted(found.values(), key=lambda pair: (-pair.similarity, pair.held_out.row_id))
