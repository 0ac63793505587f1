"""What a search shows of whether it found an answer: a few numbers that mean the same in every workbook.

A cosine alone does not tell: some embedding models put all texts near each other, long messages are nearer to all
rows than short ones, and BM25 adds up chance matches. So a cosine is counted in standard deviations of the cosines
between rows, and set against those of the same question with rows at large and with the rows next to the best one.
Pure arithmetic over two rankings; what the numbers weigh is in rag.answerability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.records import Row, normalised
from rag.evidence import lexical_share
from rag.fusion import fuse_scores
from rag.lexical import LexicalStage
from rag.stages import Ranked
from rag.terms import stems

DEPTH = 50
"""Rows of each ranking that are looked at."""
_MOST_AT_LARGE = 512
_NEAR = 4
_FAR = 19
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Signs:
    """What speaks for the best row; the higher, the likelier it answers the question.

    Attributes:
        cosine: Its cosine, above the mean one between rows, in their standard deviations.
        standing: Its cosine above the mean of the question's with rows at large, in standard deviations of those.
        wording: What its BM25 score is worth, in the same unit as `cosine`.
        said: The share of the question's terms, by rarity, that the row says anywhere.
        lead: What it has more than the fifth row, in the same unit as `cosine`.
        distance: What it has more than the twentieth.
        agreement: The share of the next four rows that have its info_1; a half where it is blank.
        cohesion: Its mean cosine with those four, on the scale of `cosine`: chance finds are scattered.
        evidence: The score of rag.evidence, on the scale of `cosine`.
        wording_lead: What the first row of the BM25 ranking has more than its fifth, in the same unit as `wording`.
        cosine_lead: What the first row of the dense ranking has more than its fifth, in the same unit as `cosine`.
    """

    cosine: float
    standing: float
    wording: float
    said: float
    lead: float
    distance: float
    agreement: float
    cohesion: float
    evidence: float
    wording_lead: float
    cosine_lead: float


class Background:
    """What signs are measured against: rows at large, and how rare terms are; safe to use from any thread.

    Args:
        row_ids: The rows', in order.
        vectors: The rows', (number of rows, dims), L2-normalised, as an array or a mapped file.
        spread: The standard deviation of the cosines between rows.
        lexical: For the rarity of terms and the worth of a BM25 score.
        usual_terms: Different terms of a usual question.
    """

    def __init__(
        self,
        row_ids: Sequence[str],
        vectors: NDArray[np.float32],
        spread: float,
        lexical: LexicalStage,
        usual_terms: float,
    ) -> None:
        self._vectors = vectors
        self._places = {row_id: place for place, row_id in enumerate(row_ids)}
        step = max(1, -(-len(vectors) // _MOST_AT_LARGE))
        self._at_large = np.array(vectors[::step], np.float32)
        mean = self._at_large.mean(axis=0)
        self._centre = float(mean @ mean)
        self._spread = max(spread, _LEAST_SPREAD)
        self._lexical = lexical
        self._usual_terms = usual_terms

    def read(
        self,
        question: str,
        vector: Sequence[float] | NDArray[np.float32],
        dense: Sequence[Ranked],
        lexical: Sequence[Ranked],
        rows: Mapping[str, Row],
    ) -> Signs | None:
        """Return the signs in two rankings, best first, of which `rows` holds every row; None where both are empty.

        `vector` is the question's, L2-normalised. The ranking by which the best row is the best is that of
        rag.evidence.
        """
        rankings = {"dense": dense[:DEPTH], "lexical": lexical[:DEPTH]}
        gain = self._lexical.gain * lexical_share(question, self._usual_terms)
        fused = fuse_scores(rankings, {"dense": 1.0, "lexical": gain}, DEPTH)
        if not fused:
            return None
        best = rows[fused[0].row_id]
        scores = {name: {each.row_id: each.score for each in ranked} for name, ranked in rankings.items()}
        wording = gain * scores["lexical"].get(best.row_id, 0.0)
        # A row that only its wording found: its cosine is at most the last of the dense ranking.
        cosine = scores["dense"].get(best.row_id, dense[-1].score if dense else 0.0)
        at_large = self._at_large @ np.asarray(vector, np.float32)
        lead, distance = (fused[0].score - fused[min(place, len(fused) - 1)].score for place in (_NEAR, _FAR))
        return Signs(
            cosine=(cosine - self._centre) / self._spread,
            standing=(cosine - float(at_large.mean())) / max(float(at_large.std()), _LEAST_SPREAD),
            wording=wording / self._spread,
            said=self._said(question, best),
            lead=lead / self._spread,
            distance=distance / self._spread,
            agreement=_agreement([rows[each.row_id] for each in fused[: _NEAR + 1]]),
            cohesion=self._cohesion([each.row_id for each in fused[: _NEAR + 1]]),
            evidence=(fused[0].score - self._centre) / self._spread,
            wording_lead=gain * _lead(lexical) / self._spread,
            cosine_lead=_lead(dense) / self._spread,
        )

    def _cohesion(self, row_ids: Sequence[str]) -> float:
        if len(row_ids) == 1:
            return 0.0
        best, *others = (self._vectors[self._places[row_id]] for row_id in row_ids)
        return (float(np.mean(np.array(others) @ best)) - self._centre) / self._spread

    def _said(self, question: str, row: Row) -> float:
        held = set(stems(f"{row.info_1} {row.info_2} {row.question} {row.answer}"))
        rarities = {term: self._lexical.rarity(term) for term in dict.fromkeys(stems(question))}
        total = sum(rarities.values())
        return sum(rarity for term, rarity in rarities.items() if term in held) / total if total else 0.0


def _lead(ranked: Sequence[Ranked]) -> float:
    """Return what the first of a ranking has more than its fifth, or than the last of a shorter one."""
    return ranked[0].score - ranked[min(_NEAR, len(ranked) - 1)].score if ranked else 0.0


def _agreement(rows: Sequence[Row]) -> float:
    subject = normalised(rows[0].info_1)
    if not subject or len(rows) == 1:
        return 0.5
    return sum(normalised(row.info_1) == subject for row in rows[1:]) / (len(rows) - 1)
