"""Whether a question is about a row whose answer has changed since the tuned model learned it.

Such a question is answered from the rows, whatever model was asked: the weights still hold the old answer, and nobody
sees it in the text. Knows no HTTP, and of training only which answers it taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data.diff.changes import Change, ChangeKind
from data.records import Row
from rag.answers import related
from rag.grounding import Grounding


class Embedder(Protocol):
    """What a guard needs of a KnowledgeIndex."""

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        """Embed texts; L2-normalised."""

    def row(self, row_id: str) -> Row | None:
        """Return a row by its id."""


@dataclass(frozen=True)
class Stale:
    """The row that a question is about, by its id as it was trained on, and what became of it since."""

    row_id: str
    change: ChangeKind


class StaleGuard:
    """Tells which questions the tuned model would answer from what is no longer so; safe to use from any thread.

    Args:
        changes: From what the model learned to the rows of `index`, stale ones only (data.diff.stale).
        index: Where questions are searched.
    """

    def __init__(self, changes: Sequence[Change], index: Embedder) -> None:
        self._index = index
        self._changed = {
            change.new.row_id: Stale(change.old.row_id, change.kind)
            for change in changes
            if change.new is not None and change.old is not None
        }
        removed = [change.old for change in changes if change.new is None and change.old is not None]
        self._removed = removed
        self._vectors = self._embedded([row.question for row in removed]) if removed else None

    def match(self, grounding: Grounding) -> Stale | None:
        """Return the stale row that the grounded question is about: the nearest row, or one that may as well be it,
        has changed; or a row that was removed is nearer than any that is left. None where it is about none."""
        near = [place for place, row in enumerate(grounding.rows) if row.row_id == grounding.nearest]
        if grounding.rival is not None:
            near.append(grounding.rival)
        for place in near:
            stale = self._changed.get(grounding.rows[place].row_id)
            if stale is not None and related(grounding.searched, grounding.rows, place):
                return stale
        return self._removed_match(grounding)

    def _removed_match(self, grounding: Grounding) -> Stale | None:
        if self._vectors is None:
            return None
        (asked,) = np.asarray(self._index.embed([grounding.searched], "query"), dtype=np.float32)
        scores = self._vectors @ asked
        best = int(np.argmax(scores))
        nearest = self._index.row(grounding.nearest)
        if nearest is not None:
            (left,) = self._embedded([nearest.question])
            if scores[best] <= left @ asked:
                return None
        row = self._removed[best]
        return Stale(row.row_id, "removed") if related(grounding.searched, [row], 0) else None

    def _embedded(self, questions: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._index.embed(questions, "passage"), dtype=np.float32)
