"""How much speaks for the index holding an answer to a question: one number, and the row that it speaks for.

It is the best row's cosine plus its BM25 score on the cosines' scale, as in the fused ranking, with one difference:
BM25 adds up every chance match, so a long message scores more than a short one whether it is answered or not. Its
part therefore shrinks with the square root of the message's length, from the length of a usual question on. The
configured weights and fusion do not enter, so that a number means the same whatever they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rag.fusion import fuse_scores
from rag.stages import Ranked
from rag.terms import terms


@dataclass(frozen=True)
class Evidence:
    """What speaks for a row; on the scale of a cosine, but it may exceed 1."""

    row_id: str
    score: float


def lexical_share(question: str, usual_terms: float) -> float:
    """Return the share of its BM25 score that counts for a message of this length.

    `usual_terms` is the number of different terms of a usual question.
    """
    return min(1.0, math.sqrt(usual_terms / max(1, len(set(terms(question))))))


def weigh(
    question: str,
    dense: Sequence[Ranked],
    lexical: Sequence[Ranked],
    *,
    gain: float,
    usual_terms: float,
    depth: int,
) -> Evidence | None:
    """Return the evidence in two rankings of at most `depth` rows; None where both are empty.

    `gain` is what a BM25 score of 1 is worth, before the message's length is looked at.
    """
    rankings = {"dense": dense, "lexical": lexical}
    gains = {"dense": 1.0, "lexical": gain * lexical_share(question, usual_terms)}
    fused = fuse_scores(rankings, gains, depth)
    return Evidence(fused[0].row_id, fused[0].score) if fused else None
