"""Ranking by how much of a row's question a long message says.

A person who tells a story of ten lines asks one thing in it. Its vector is that of the story, and BM25 adds up
every chance match, while the row's own short question is said nearly whole somewhere. In a short message the same
share means little: whoever asks in other words says few of the row's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.records import Row
from rag.ranking import highest
from rag.stages import Query, Ranked
from rag.terms import stems

_ARRAYS = "coverage.npz"
_TERMS = "terms.json"
# A message counts from the length of a row's question (1), and fully from four times that.
_FULL_LENGTH = 4.0


class CoverageStage:
    """The share of a row's question, weighted by how rare its terms are, that the message says.

    `row_ids` is in the order in which the rows were given to `write_coverage`.
    """

    name = "coverage"

    def __init__(
        self,
        places: dict[str, int],
        arrays: dict[str, NDArray[Any]],
        row_ids: Sequence[str],
        gain: float,
    ) -> None:
        self.gain = gain
        self._places = places
        self._starts, self._rows, self._weights = arrays["starts"], arrays["rows"], arrays["weights"]
        self._totals = arrays["totals"]
        self._usual_length = float(arrays["usual_length"])
        self._row_ids = tuple(row_ids)

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the rows whose question the message says most of; none for a message as short as a question.

        A score is at most 1: the share, less where the message is under four times as long as a question.
        """
        said = stems(query.text)
        length = min((len(said) / self._usual_length - 1) / (_FULL_LENGTH - 1), 1.0)
        if length <= 0:
            return []
        shares = np.zeros(len(self._row_ids), np.float32)
        for term in dict.fromkeys(said):
            if (place := self._places.get(term)) is not None:
                shares[self._rows[self._starts[place] : self._starts[place + 1]]] += self._weights[place]
        shares *= np.float32(length) / self._totals
        if query.part is not None:
            shares[~query.part.mask] = 0
        return [Ranked(self._row_ids[place], float(shares[place])) for place in highest(shares, depth)]


def write_coverage(folder: Path, rows: Sequence[Row]) -> None:
    """Save in `folder` which rows' questions hold each term, and the terms' weights."""
    questions = [stems(row.question) for row in rows]
    rows_of: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        for term in dict.fromkeys(question):
            rows_of.setdefault(term, []).append(place)
    weights = {term: _rarity(len(of_term), len(rows)) for term, of_term in rows_of.items()}
    totals = [sum(weights[term] for term in dict.fromkeys(question)) or 1.0 for question in questions]
    lengths = sorted(len(question) for question in questions)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / _ARRAYS,
        starts=np.cumsum([0, *map(len, rows_of.values())]),
        rows=np.fromiter((place for of_term in rows_of.values() for place in of_term), np.int32),
        weights=np.array(list(weights.values()), np.float32),
        totals=np.array(totals, np.float32),
        usual_length=np.float64(max(1, lengths[len(lengths) // 2])),
    )
    (folder / _TERMS).write_text(json.dumps(list(rows_of), ensure_ascii=False), encoding="utf-8")


def open_coverage(folder: Path, row_ids: Sequence[str], gain: float) -> CoverageStage:
    """Open what `write_coverage` saved for the rows of these ids, in this order."""
    names = json.loads((folder / _TERMS).read_text(encoding="utf-8"))
    with np.load(folder / _ARRAYS, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    return CoverageStage({term: place for place, term in enumerate(names)}, arrays, row_ids, gain)


def _rarity(num_holding: int, num_rows: int) -> float:
    """Return BM25's inverse document frequency."""
    return math.log(1 + (num_rows - num_holding + 0.5) / (num_holding + 0.5))
