"""Likeness of meaning: the cosine of two texts' embeddings. Loads no model; it is given one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.embedding import SentenceEmbeddings


def similarities(
    embeddings: SentenceEmbeddings, answers: Sequence[str], references: Sequence[str]
) -> list[float]:
    """Return the cosine of each answer with its reference, times 100; 0 where either is empty.

    Both are embedded as passages, each distinct text once. What the scale means is the model's affair: with
    multilingual-e5-small two unrelated texts have about 75.
    """
    distinct = sorted({text for text in (*answers, *references) if text.strip()})
    vectors = dict(zip(distinct, embeddings.embed(distinct, "passage"), strict=True)) if distinct else {}
    return [
        100.0 * float(vectors[answer] @ vectors[reference])
        if answer in vectors and reference in vectors
        else 0.0
        for answer, reference in zip(answers, references, strict=True)
    ]
