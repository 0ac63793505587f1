"""Making one ranking out of the stages'.

By scores: the weighted sum of what each stage says, on the scale of a cosine. By ranks: reciprocal rank fusion
(Cormack, Clarke, Büttcher, SIGIR 2009), the sum of weight / (k + rank), for stages whose scores compare with
nothing. Knows no stage by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rag.stages import Ranked

Rankings = Mapping[str, Sequence[Ranked]]


@dataclass(frozen=True)
class Fused:
    """A row id with its fused score, higher is better, and its 1-based rank in each ranking that holds it."""

    row_id: str
    score: float
    ranks: Mapping[str, int]


def fuse_scores(rankings: Rankings, gains: Mapping[str, float], depth: int) -> list[Fused]:
    """Return every row of `rankings`, best first: the score is the sum of gain x the stage's score.

    A row that a stage did not rank counts there with the lowest score it gave, or with 0 where the stage had
    fewer than `depth` rows to rank. `gains` names every ranking.
    """
    floors = {
        name: ranked[-1].score if ranked and len(ranked) >= depth else 0.0
        for name, ranked in rankings.items()
    }
    scores = {name: {row.row_id: row.score for row in ranked} for name, ranked in rankings.items()}
    return _ordered(
        rankings,
        lambda row_id, _: sum(gains[name] * scores[name].get(row_id, floors[name]) for name in rankings),
    )


def fuse_ranks(rankings: Rankings, weights: Mapping[str, float], k: float) -> list[Fused]:
    """Return every row of `rankings`, best first, by reciprocal rank; 1.0 for a row that is first in all.

    `weights` names every ranking.
    """
    highest = sum(weights[name] for name in rankings) / (k + 1)
    return _ordered(
        rankings,
        lambda _, ranks: sum(weights[name] / (k + rank) for name, rank in ranks.items()) / highest,
    )


def _ordered(rankings: Rankings, score: Callable[[str, Mapping[str, int]], float]) -> list[Fused]:
    """Score the rows; equal scores are ordered by the best single rank, then by id, so always the same."""
    ranks: dict[str, dict[str, int]] = {}
    for name, ranked in rankings.items():
        for rank, row in enumerate(ranked, start=1):
            ranks.setdefault(row.row_id, {})[name] = rank
    fused = [Fused(row_id, score(row_id, of_row), of_row) for row_id, of_row in ranks.items()]
    return sorted(fused, key=lambda row: (-row.score, min(row.ranks.values()), row.row_id))
