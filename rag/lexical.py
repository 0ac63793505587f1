"""Ranking by wording: BM25 over a row's terms. The only file that imports bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np

from data.records import Row
from rag.stages import Query, Ranked
from rag.terms import terms

_K1 = 1.5
_B = 0.75


class LexicalStage:
    """BM25 over the rows of an index; `row_ids` is in the order in which the rows were given to `write_lexical`."""

    name = "lexical"

    def __init__(self, bm25: bm25s.BM25, row_ids: Sequence[str], gain: float) -> None:
        self.gain = gain
        self._bm25 = bm25
        self._row_ids = tuple(row_ids)

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the rows that share a term with the question, best first, with their BM25 scores."""
        known = self._bm25.get_tokens_ids(terms(query.text))
        if not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)
        best = np.argsort(-scores, kind="stable")[:depth]
        return [Ranked(self._row_ids[place], float(scores[place])) for place in best if scores[place] > 0]


def write_lexical(folder: Path, rows: Sequence[Row], question_weight: int) -> None:
    """Index `rows` and save the index in `folder`.

    A row's text is its cells, the question `question_weight` times: a question is asked in words of a
    question more than in words of an answer, and an answer many times as long would drown it.
    """
    bm25 = bm25s.BM25(k1=_K1, b=_B, method="lucene")
    bm25.index([_row_terms(row, question_weight) for row in rows], show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    bm25.save(folder, allow_pickle=False, show_progress=False)


def _row_terms(row: Row, question_weight: int) -> list[str]:
    title = terms(f"{row.info_1} {row.info_2}")
    return title + terms(row.question) * question_weight + terms(row.answer)


def open_lexical(folder: Path, row_ids: Sequence[str], gain: float) -> LexicalStage:
    """Open what `write_lexical` saved for the rows of these ids, in this order."""
    bm25 = bm25s.BM25.load(folder, allow_pickle=False, show_progress=False)
    return LexicalStage(bm25, row_ids, gain)
