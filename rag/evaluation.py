"""How often each stage finds the right row for held-out questions, and how sure that is.

hit@k is the share of questions whose row is among the first k; MRR the mean of 1/rank; nDCG@10, one row being
right, the mean of 1/log2(1 + rank) up to rank 10 (Järvelin and Kekäläinen, TOIS 2002). A row that is not found
counts 0 in all. Intervals are percentile bootstrap over the questions (Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.records import HeldOutQuestion
from rag.knowledge import KnowledgeIndex

FUSED = "fused"
MEASURES = ("hit@1", "hit@3", "hit@5", "MRR", "nDCG@10")

_RESAMPLES = 1000
_SEED = 0
_SMALLEST_CATEGORY = 5


@dataclass(frozen=True)
class Estimate:
    """A mean between 0 and 1 with the ends of its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        num_questions: Questions asked; those that no row answers are not asked.
        num_unknown: Questions whose row the index does not hold; they count as not found.
        stages: The estimates of each stage and of the fused ranking, by measure (`MEASURES`).
        categories: The fused ranking's, for each info_1 that five questions or more are about, largest first.
        category_sizes: Their numbers of questions.
        search_ms: The searches' times in milliseconds, p50 and p99.
    """

    num_questions: int
    num_unknown: int
    stages: Mapping[str, Mapping[str, Estimate]]
    categories: Mapping[str, Mapping[str, Estimate]]
    category_sizes: Mapping[str, int]
    search_ms: Mapping[str, float]


def evaluate(index: KnowledgeIndex, questions: Sequence[HeldOutQuestion]) -> Report:
    """Ask every question that a row answers and look where that row comes.

    Raises:
        ValueError: there is no such question.
    """
    answerable = [question for question in questions if question.row_id]
    if not answerable:
        raise ValueError("no question names a row")
    ranks: dict[str, list[int | None]] = {name: [] for name in (*index.stages, FUSED)}
    categories: dict[str, list[int]] = {}
    taken_ms = []
    num_unknown = 0
    for number, question in enumerate(answerable):
        found = index.search(question.question)
        taken_ms.append(sum(found.timings_ms.values()))
        places = {hit.row.row_id: place for place, hit in enumerate(found.hits, start=1)}
        place = places.get(question.row_id)
        ranks[FUSED].append(place)
        for name in index.stages:
            ranks[name].append(found.hits[place - 1].ranks.get(name) if place else None)
        row = index.row(question.row_id)
        num_unknown += row is None
        if row is not None and row.info_1:
            categories.setdefault(row.info_1, []).append(number)
    values = {name: _values(of_stage) for name, of_stage in ranks.items()}
    large = {name: numbers for name, numbers in categories.items() if len(numbers) >= _SMALLEST_CATEGORY}
    largest_first = sorted(large, key=lambda name: (-len(large[name]), name))
    return Report(
        num_questions=len(answerable),
        num_unknown=num_unknown,
        stages={name: _estimates(of_stage) for name, of_stage in values.items()},
        categories={name: _estimates(values[FUSED][large[name]]) for name in largest_first},
        category_sizes={name: len(large[name]) for name in largest_first},
        search_ms={f"p{part}": float(np.percentile(taken_ms, part)) for part in (50, 99)},
    )


def _values(ranks: Sequence[int | None]) -> NDArray[np.float64]:
    """Return each question's value of each measure, (len(ranks), len(MEASURES))."""
    place = np.array([rank or np.inf for rank in ranks])
    hits = [place <= limit for limit in (1, 3, 5)]
    gain = np.where(place <= 10, 1 / np.log2(1 + place), 0.0)
    return np.stack([*hits, 1 / place, gain], axis=1).astype(np.float64)


def _estimates(values: NDArray[np.float64]) -> dict[str, Estimate]:
    chosen = np.random.default_rng(_SEED).integers(0, len(values), (_RESAMPLES, len(values)))
    means = np.stack([values[resample].mean(axis=0) for resample in chosen])
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return {
        name: Estimate(float(mean), float(least), float(most))
        for name, mean, least, most in zip(MEASURES, values.mean(axis=0), low, high, strict=True)
    }
