"""Asking questions of an index as if some of its rows were not there.

So it is seen, on nothing but the rows, how a question fares that no row answers. Also says which rows are about the
same as a row. Opens no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.records import Row, normalised
from rag.answerability import NOTHING, Answerability, Sums, shipped_answerability
from rag.evidence import lexical_share
from rag.lexical import LexicalStage
from rag.signs import DEPTH, Background, Signs
from rag.stages import Ranked

# A topic may hold so much of the workbook: info_1 is then a subject, not a department of a hospital.
_LARGEST_SUBJECT = 0.05
_LARGEST_PAIR = 0.2
_SMALL = 10
_NEAREST = 0.01


class LeavingOut:
    """Asks questions of the rows, some of which are left out, and scores what is found as a search would."""

    def __init__(
        self,
        rows: Sequence[Row],
        vectors: NDArray[np.float32],
        lexical: LexicalStage,
        spread: float,
        usual_terms: float,
        answerability: Answerability | None = None,
    ) -> None:
        self.rows = {row.row_id: row for row in rows}
        self.row_ids = tuple(self.rows)
        self.vectors = vectors
        self.lexical = lexical
        self.usual_terms = usual_terms
        self.background = Background(self.row_ids, vectors, spread, lexical, usual_terms)
        self.weights = answerability or shipped_answerability()

    def ask(self, question: str, vector: NDArray[np.float32]) -> AskedOfRows:
        """Return how every row does for a question; `vector` (dims,) is its own, L2-normalised."""
        return AskedOfRows(self, question, vector)


class AskedOfRows:
    """How every row does for one question. `without` names the places of rows that are left out."""

    def __init__(self, rows: LeavingOut, question: str, vector: NDArray[np.float32]) -> None:
        self._all = rows
        self._question = question
        self._vector = vector
        self._cosines = rows.vectors @ vector
        self._bm25 = rows.lexical.scores(question)

    def evidence(self, without: Sequence[int] | NDArray[np.intp] = ()) -> float:
        """Return the score of rag.evidence; -inf where no row is left."""
        gain = self._all.lexical.gain * lexical_share(self._question, self._all.usual_terms)
        scores = np.asarray(self._cosines + gain * self._bm25, np.float32)
        scores[np.asarray(without, np.intp)] = -np.inf
        return float(scores.max())

    def signs(self, without: Sequence[int] | NDArray[np.intp] = ()) -> Signs | None:
        """Return the signs of rag.signs; None where no row is left."""
        dense, lexical = (
            [Ranked(self._all.row_ids[place], score) for place, score in _best(scores, without)]
            for scores in (self._cosines, self._bm25)
        )
        lexical = [ranked for ranked in lexical if ranked.score > 0]
        return self._all.background.read(self._question, self._vector, dense, lexical, self._all.rows)

    def sums(self, without: Sequence[int] | NDArray[np.intp] = ()) -> Sums:
        """Return both sums of rag.answerability; -inf where no row is left."""
        signs = self.signs(without)
        return NOTHING if signs is None else self._all.weights.sums(signs)


def _best(scores: NDArray[np.float32], without: Sequence[int] | NDArray[np.intp]) -> list[tuple[int, float]]:
    """Return the places and scores of the highest `DEPTH` of `scores`, highest first."""
    kept = np.array(scores, np.float32)
    kept[np.asarray(without, np.intp)] = -np.inf
    some = np.argpartition(-kept, DEPTH)[:DEPTH] if len(kept) > DEPTH else np.arange(len(kept))
    ordered = some[np.argsort(-kept[some], kind="stable")]
    return [(int(place), float(kept[place])) for place in ordered if np.isfinite(kept[place])]


class Topics:
    """Which rows are about the same as a row.

    Those of the same info_1; where that is a large part of the workbook, those of the same info_1 and info_2;
    where that is too, or both are blank, the hundredth of the rows that is nearest to it.
    """

    def __init__(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._places: dict[tuple[str, ...], list[int]] = {}
        self._keys = [_topic_keys(row) for row in rows]
        for place, keys in enumerate(self._keys):
            for key in keys:
                self._places.setdefault(key, []).append(place)

    def of(self, place: int) -> NDArray[np.intp]:
        """Return the places of the rows of the same topic, its own among them."""
        for key, most in zip(self._keys[place], (_LARGEST_SUBJECT, _LARGEST_PAIR), strict=True):
            same = self._places[key]
            if any(key) and len(same) <= max(_SMALL, most * len(self._keys)):
                return np.array(same, np.intp)
        nearest = max(1, round(len(self._keys) * _NEAREST))
        cosines = self._vectors @ self._vectors[place]
        return np.union1d(np.argsort(-cosines)[:nearest], [place])


def _topic_keys(row: Row) -> tuple[tuple[str, ...], tuple[str, ...]]:
    subject = normalised(row.info_1)
    return (subject,), (subject, normalised(row.info_2))
