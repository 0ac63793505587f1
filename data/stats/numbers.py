"""Counting rows: categories, lengths, scripts, how often a question or an answer comes again."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.records import Row, normalised
from data.stats.scripts import script_of


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts in characters; `values` in the order of the rows."""

    values: tuple[int, ...]

    def quantile(self, share: float) -> int:
        """Return the length that a share of the texts does not exceed."""
        ordered = sorted(self.values)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    @property
    def mean(self) -> float:
        """The mean length."""
        return statistics.fmean(self.values)


@dataclass(frozen=True)
class KnowledgeStats:
    """What was counted. The mappings go from the most frequent to the least."""

    num_rows: int
    info_1: dict[str, int]
    info_2: dict[str, int]
    question: Lengths
    answer: Lengths
    question_scripts: dict[str, int]
    answer_scripts: dict[str, int]
    num_distinct_questions: int
    num_distinct_answers: int


def count_rows(rows: Sequence[Row]) -> KnowledgeStats:
    """Count at least one row; questions and answers are told apart as ids tell them (`data.records.normalised`)."""
    return KnowledgeStats(
        num_rows=len(rows),
        info_1=_frequencies(row.info_1.strip() for row in rows),
        info_2=_frequencies(row.info_2.strip() for row in rows),
        question=Lengths(tuple(len(row.question.strip()) for row in rows)),
        answer=Lengths(tuple(len(row.answer.strip()) for row in rows)),
        question_scripts=_frequencies(script_of(row.question) for row in rows),
        answer_scripts=_frequencies(script_of(row.answer) for row in rows),
        num_distinct_questions=len({normalised(row.question) for row in rows}),
        num_distinct_answers=len({row.revision for row in rows}),
    )


def _frequencies(texts: Iterable[str]) -> dict[str, int]:
    return dict(Counter(texts).most_common())
