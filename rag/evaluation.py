"""How often each stage finds the right row for held-out questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.records import HeldOutQuestion
from rag.knowledge import KnowledgeIndex

FUSED = "fused"


@dataclass(frozen=True)
class Retrieval:
    """Shares between 0 and 1: right row first, among three, among five; mean reciprocal rank (0 if not found)."""

    hit_1: float
    hit_3: float
    hit_5: float
    mrr: float


@dataclass(frozen=True)
class Report:
    """One `Retrieval` a stage, and the fused one.

    `num_unknown` of the questions name a row that the index does not hold; they count as not found.
    """

    num_questions: int
    num_unknown: int
    stages: Mapping[str, Retrieval]
    mean_search_ms: float


def evaluate(index: KnowledgeIndex, questions: Sequence[HeldOutQuestion]) -> Report:
    """Ask every question that a row answers and look where that row comes.

    Raises:
        ValueError: there is no such question.
    """
    answerable = [question for question in questions if question.row_id]
    if not answerable:
        raise ValueError("no question names a row")
    ranks: dict[str, list[int | None]] = {name: [] for name in (*index.stages, FUSED)}
    total_ms = 0.0
    for question in answerable:
        found = index.search(question.question)
        total_ms += sum(found.timings_ms.values())
        places = {hit.row.row_id: place for place, hit in enumerate(found.hits, start=1)}
        place = places.get(question.row_id)
        ranks[FUSED].append(place)
        for name in index.stages:
            ranks[name].append(found.hits[place - 1].ranks.get(name) if place else None)
    unknown = sum(index.row(question.row_id) is None for question in answerable)
    stages = {name: _retrieval(of_stage) for name, of_stage in ranks.items()}
    return Report(len(answerable), unknown, stages, total_ms / len(answerable))


def _retrieval(ranks: Sequence[int | None]) -> Retrieval:
    def share(limit: int) -> float:
        return sum(rank is not None and rank <= limit for rank in ranks) / len(ranks)

    mrr = sum(1 / rank for rank in ranks if rank is not None) / len(ranks)
    return Retrieval(share(1), share(3), share(5), mrr)
