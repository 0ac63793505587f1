"""What goes through a search: a query, each stage's ranking, and the hits that come out.

A stage ranks rows for a query in its own way (by meaning, by wording). It knows no other stage; rag.fusion
makes one ranking of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data.records import Row
from rag.filters import Part


@dataclass(frozen=True)
class Query:
    """A question and its embedding (L2-normalised, as long as the index's `dims`).

    `part` is the part of the rows that is searched; None: all of them.
    """

    text: str
    vector: Sequence[float]
    part: Part | None = None


@dataclass(frozen=True)
class Ranked:
    """A row id with a stage's own score for it, higher is better."""

    row_id: str
    score: float


class Stage(Protocol):
    """One way to rank rows; called from several threads at once."""

    @property
    def name(self) -> str:
        """The key of this stage's rank in `Hit.ranks` and of its weight in the configuration."""

    @property
    def gain(self) -> float:
        """What one unit of this stage's score is worth in the fused score, which is on the scale of a cosine."""

    def rank(self, query: Query, depth: int) -> Sequence[Ranked]:
        """Return at most `depth` rows, best first; rows that do not match at all are left out."""


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    `score` is the fused one, higher is better. `ranks` maps the name of each stage that found the row ("dense",
    "lexical") to the row's 1-based rank there.
    """

    row: Row
    score: float
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class Search:
    """The hits of one search, best first, and what its parts took in milliseconds.

    `num_best` of the first hits are so close in score that any of them may be the best: 1 or 2. `evidence` says how
    much speaks for one row, `answerability` how far what was found looks like an answer; `is_doubtful`: less than the
    configuration asks for. `is_verbatim`: the first hit answers this very question (rag.judgement).
    """

    hits: tuple[Hit, ...]
    timings_ms: Mapping[str, float]
    num_best: int = 1
    evidence: float | None = None
    answerability: float | None = None
    is_doubtful: bool = False
    is_verbatim: bool = False
