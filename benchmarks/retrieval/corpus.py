"""Rows and questions of any number, made of a workbook's rows, and vectors for them.

Each question joins the beginning of one to the end of another, so that terms are as frequent as in real text. Where
embedding all rows would take an hour, a row's vector is the normalised mean of its two parents' real vectors with a
little noise. Questions are always embedded by the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.records import Row, revision_of, row_id_of
from rag.embedding import SentenceEmbeddings

NUM_QUESTIONS = 200
QUESTION_CHARACTERS = 60
_NOISE = 0.02


class MixedEmbeddings(SentenceEmbeddings):
    """The model for questions; for rows the mean of their parents' vectors, looked up by text."""

    def __init__(self, model: SentenceEmbeddings, parents: dict[str, tuple[int, int]], vectors: Any) -> None:
        self._real, self._parents, self._vectors = model, parents, vectors
        self._noise = np.random.default_rng(1)

    @property
    def dims(self) -> int:
        return int(self._vectors.shape[1])

    def embed(
        self, texts: Sequence[str], kind: Any, on_progress: Callable[[int], None] = lambda _: None
    ) -> Any:
        if kind == "query":
            return self._real.embed(texts, kind, on_progress)
        pairs = np.array([self._parents[text] for text in texts])
        mixed = self._vectors[pairs[:, 0]] + self._vectors[pairs[:, 1]]
        mixed = mixed + _NOISE * self._noise.standard_normal(mixed.shape)
        on_progress(len(texts))
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    def close(self) -> None: ...


def make_rows(source: Sequence[Row], count: int) -> tuple[list[Row], list[tuple[int, int]]]:
    """Return `count` different rows, and the places of each one's two parents."""
    chance = random.Random(1)
    rows: list[Row] = []
    parents: list[tuple[int, int]] = []
    seen: set[str] = set()
    while len(rows) < count:
        begin, end = chance.randrange(len(source)), chance.randrange(len(source))
        a, b = source[begin], source[end]
        cut = chance.randint(len(a.question) // 2, len(a.question))
        question = a.question[:cut] + b.question[chance.randint(0, len(b.question) // 2) :]
        row_id = row_id_of(a.info_1, a.info_2, question)
        if row_id in seen:
            question += f" {len(rows)}"
            row_id = row_id_of(a.info_1, a.info_2, question)
        seen.add(row_id)
        place = f"rows.xlsx#Sheet1!A{len(rows) + 2}"
        rows.append(Row(row_id, revision_of(a.answer), a.info_1, a.info_2, question, a.answer, place))
        parents.append((begin, end))
    return rows, parents


def make_questions(source: Sequence[Row]) -> list[str]:
    """Return questions of 60 characters, each a row's, told with the beginning of another's answer."""
    chance = random.Random(2)
    asked = []
    for _ in range(NUM_QUESTIONS):
        row, other = chance.choice(source), chance.choice(source)
        asked.append(f"{row.question} {other.answer}"[:QUESTION_CHARACTERS])
    return asked
