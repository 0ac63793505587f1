"""Ranking by wording: BM25 over a row's terms.

What is saved is which rows hold each term and how often. Every weight depends on how many rows there are and how
long they are on average, so weights are made when the index is opened: a changed row then changes its own entries
and no others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.records import Row
from rag.ranking import highest
from rag.stages import Query, Ranked
from rag.terms import stems

SPREADS_PER_BM25 = 0.1
"""A BM25 score of 10 weighs as much as one standard deviation of the cosines between rows. Between half and twice
that, retrieval is about equally good on every knowledge base that was measured."""
_K1 = 1.5
_B = 0.75
_ARRAYS = "postings.npz"
_TERMS = "terms.json"


@dataclass(frozen=True)
class Postings:
    """Which rows hold each term: entry i says that row `rows[i]` holds `names[terms[i]]` `counts[i]` times.

    Entries are ordered by term; `lengths` is the number of terms of each row, repetitions counted.
    """

    names: Sequence[str]
    terms: NDArray[np.int32]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]

    def save(self, folder: Path) -> None:
        """Write it into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / _ARRAYS, terms=self.terms, rows=self.rows, counts=self.counts, lengths=self.lengths)
        (folder / _TERMS).write_text(json.dumps(self.names, ensure_ascii=False), encoding="utf-8")


def load_postings(folder: Path) -> Postings:
    """Read back what `save` wrote."""
    names = json.loads((folder / _TERMS).read_text(encoding="utf-8"))
    with np.load(folder / _ARRAYS, allow_pickle=False) as saved:
        return Postings(names, *(saved[name] for name in ("terms", "rows", "counts", "lengths")))


_NOTHING = Postings((), *(np.zeros(0, np.int32) for _ in range(4)))


def _changed(old: Postings, new_places: NDArray[np.int32], added: Mapping[int, Sequence[str]]) -> Postings:
    """Return `old` with row p moved to `new_places[p]` (-1: gone) and rows put in at the places of `added`."""
    places = {name: place for place, name in enumerate(old.names)}
    new_terms, new_rows, new_counts = [], [], []
    for row, of_row in added.items():
        for term, count in Counter(of_row).items():
            new_terms.append(places.setdefault(term, len(places)))
            new_rows.append(row)
            new_counts.append(count)
    rows = new_places[old.rows]
    kept = rows >= 0
    added_terms = np.array(new_terms, np.int32)
    order = np.argsort(added_terms, kind="stable")
    kept_terms = old.terms[kept]
    # Behind the entries of the same term that are there already.
    at = np.searchsorted(kept_terms, added_terms[order], side="right")
    all_terms = np.insert(kept_terms, at, added_terms[order])
    lengths = np.zeros(int((new_places >= 0).sum()) + len(added), np.int32)
    lengths[new_places[new_places >= 0]] = old.lengths[new_places >= 0]
    for row, of_row in added.items():
        lengths[row] = len(of_row)
    # Terms that no row holds any more go.
    is_held = np.bincount(all_terms, minlength=len(places)) > 0
    compact = np.cumsum(is_held, dtype=np.int32) - 1
    names = list(places)
    return Postings(
        [names[place] for place in np.flatnonzero(is_held)] if not is_held.all() else names,
        compact[all_terms].astype(np.int32),
        np.insert(rows[kept], at, np.array(new_rows, np.int32)[order]),
        np.insert(old.counts[kept], at, np.array(new_counts, np.int32)[order]),
        lengths,
    )


def write_lexical(
    folder: Path,
    rows: Sequence[Row],
    question_weight: int,
    source: Path | None = None,
    old_places: Mapping[str, int] | None = None,
) -> None:
    """Index `rows` and save the index in `folder`.

    A row's text is its cells, the question `question_weight` times: a question is asked in words of a
    question more than in words of an answer, and an answer many times as long would drown it.

    With `source`, an index of other rows: `old_places` maps the ids of the rows that are the same in both to their
    places there, and only the other rows are read. The result is the same.
    """
    old = _NOTHING if source is None else load_postings(source)
    same = old_places or {}
    new_places = np.full(len(old.lengths), -1, np.int32)
    added = {}
    for place, row in enumerate(rows):
        if (old_place := same.get(row.row_id)) is None:
            added[place] = _row_terms(row, question_weight)
        else:
            new_places[old_place] = place
    _changed(old, new_places, added).save(folder)


def _row_terms(row: Row, question_weight: int) -> list[str]:
    title = stems(f"{row.info_1} {row.info_2}")
    return title + stems(row.question) * question_weight + stems(row.answer)


class LexicalStage:
    """BM25 over the rows of an index; `row_ids` is in the order in which the rows were given to `write_lexical`.

    The formula is Lucene's: idf = ln(1 + (N - n + 0.5) / (n + 0.5)) and
    weight = idf · f / (f + k1 (1 - b + b · length / mean length)).
    """

    name = "lexical"

    def __init__(self, postings: Postings, row_ids: Sequence[str], gain: float) -> None:
        self.gain = gain
        self._row_ids = tuple(row_ids)
        self._places = {name: place for place, name in enumerate(postings.names)}
        self._rows = postings.rows
        num_holding = np.bincount(postings.terms, minlength=len(self._places))
        self._starts = np.concatenate([[0], np.cumsum(num_holding)])
        self._weights = _bm25_weights(postings, num_holding)
        self._num_rows = len(postings.lengths)

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the rows that share a term with the question, best first, with their BM25 scores."""
        scores = self.scores(query.text)
        if query.part is not None:
            scores[~query.part.mask] = 0
        return [Ranked(self._row_ids[place], float(scores[place])) for place in highest(scores, depth)]

    def scores(self, text: str) -> NDArray[np.float32]:
        """Return every row's BM25 score, (number of rows,); 0 where it shares no term with `text`."""
        scores = np.zeros(len(self._row_ids), np.float32)
        for term in stems(text):
            if (place := self._places.get(term)) is not None:
                entries = slice(self._starts[place], self._starts[place + 1])
                scores[self._rows[entries]] += self._weights[entries]
        return scores

    def rarity(self, term: str) -> float:
        """Return BM25's inverse document frequency of a term; that of one which no row holds is the highest."""
        place = self._places.get(term)
        num_holding = 0 if place is None else int(self._starts[place + 1] - self._starts[place])
        return float(_idf(self._num_rows, num_holding))


def _idf(num_rows: int, num_holding: Any) -> Any:
    return np.log1p((num_rows - num_holding + 0.5) / (num_holding + 0.5))


def _bm25_weights(postings: Postings, num_holding: NDArray[Any]) -> NDArray[np.float32]:
    idf = _idf(len(postings.lengths), num_holding)
    mean_length = max(float(postings.lengths.mean()), 1.0)
    damping = _K1 * (1 - _B + _B * postings.lengths / mean_length)
    weights = idf[postings.terms] * postings.counts / (postings.counts + damping[postings.rows])
    return np.asarray(weights, np.float32)


def open_lexical(folder: Path, row_ids: Sequence[str], gain: float) -> LexicalStage:
    """Open what `write_lexical` saved for the rows of these ids, in this order."""
    return LexicalStage(load_postings(folder), row_ids, gain)
