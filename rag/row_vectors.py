"""A row's one vector, made of what of it is embedded. Knows no folder but a file of earlier vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.changes import Changes
from rag.config import IndexSection
from rag.embedder import CachedEmbedder
from rag.row_texts import row_text, row_title

Vectors = NDArray[np.float32]


def row_vectors(
    changes: Changes, base: Path | None, embedder: CachedEmbedder, settings: IndexSection
) -> tuple[Vectors, int]:
    """Return one vector a row (len(rows), dims), the normalised mean of its views', and the texts embedded now.

    Args:
        base: The file of the vectors of the rows that `changes` compares with; None: there are none.
    """
    text_of = {"question": row_title, "answer": lambda row: row.answer, "row": row_text}
    rows, new = changes.rows, changes.new
    made, num_embedded = None, 0
    if new:
        texts = [text_of[view](rows[place]) for view in settings.views for place in new]
        views, num_embedded = embedder.embed(texts, "passage")
        mean = views.reshape(len(settings.views), len(new), -1).mean(axis=0)
        made = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        # Texts of kept versions may be wanted again; there is no use for more.
        all_texts = (text_of[view](row) for view in settings.views for row in rows)
        at_most = len(rows) * len(settings.views) * (settings.keep_versions + 2)
        embedder.forget_others(all_texts, "passage", at_most=at_most)
    if base is None:
        assert made is not None, "without a base every row is new"
        return made, num_embedded
    before = np.load(base, allow_pickle=False)
    vectors = np.empty((len(rows), before.shape[1]), np.float32)
    kept = [place for place, row in enumerate(rows) if row.row_id in changes.same]
    vectors[kept] = before[[changes.same[rows[place].row_id] for place in kept]]
    if made is not None:
        vectors[new] = made
    return vectors, num_embedded


def cosine_spread(vectors: Vectors) -> float:
    """Return the standard deviation of the cosines between (at most 1000, evenly spaced) rows.

    Embedding models differ in how far apart they put texts; scores of another kind are scaled by this.
    """
    some = vectors[:: max(1, len(vectors) // 1000)][:1000]
    num_pairs = len(some) * (len(some) - 1) // 2
    if num_pairs < 2:
        return 0.0
    # Every pair is there twice, and each row with itself once.
    cosines = (some @ some.T).astype(np.float64)
    own = np.diagonal(cosines)
    mean = (cosines.sum() - own.sum()) / 2 / num_pairs
    mean_square = (np.vdot(cosines, cosines) - np.vdot(own, own)) / 2 / num_pairs
    return float(np.sqrt(max(mean_square - mean**2, 0.0)))
