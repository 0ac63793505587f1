"""A second look at the best rows: a cross-encoder reads the question and a row together.

It sees what vectors and words apart cannot, and costs a forward pass a row: some 30 ms for a small model on a CPU
core. Off unless `retrieve.rerank` names a model. Loads sequence-classification models of one score, as bge-reranker
and MiniLM cross-encoders are, with sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Protocol

from data.errors import InputError
from data.models.folder import resolve_model
from data.records import Row
from data.workspace import Workspace
from rag.config import RetrieveSection
from rag.embedding import quiet_loading
from rag.stages import Hit

NAME = "rerank"
_MAX_TOKENS = 512
_BATCH = 16


class Reranker(Protocol):
    """Scores rows for a question; called from several threads at once."""

    def scores(self, question: str, rows: Sequence[Row]) -> Sequence[float]:
        """Return a score a row, higher is better; only their order is used."""


class CrossEncoderReranker:
    """A cross-encoder of a local folder.

    Args:
        folder: Of a Hugging Face model with one label.
        device: As in `cpu` or `cuda`.

    Raises:
        InputError: it cannot be loaded as such.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from sentence_transformers import CrossEncoder

        try:
            with quiet_loading():
                self._model = CrossEncoder(
                    str(folder),
                    device=device,
                    max_length=_MAX_TOKENS,
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True},
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder}: cannot be loaded as a cross-encoder ({' '.join(str(error).split())}); set "
                "retrieve.rerank to one"
            ) from error
        if self._model.num_labels != 1:
            raise InputError(
                f"{folder}: gives {self._model.num_labels} scores; set retrieve.rerank to a cross-encoder with one"
            )
        # The tokenizer is not re-entrant.
        self._lock = Lock()

    def scores(self, question: str, rows: Sequence[Row]) -> list[float]:
        """Return the model's score of each row's question and answer."""
        pairs = [(question, f"{row.title}\n{row.answer}") for row in rows]
        with self._lock:
            found = self._model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)
        return [float(score) for score in found]


def reranked(reranker: Reranker, question: str, hits: Sequence[Hit], depth: int) -> tuple[Hit, ...]:
    """Return `hits` with the first `depth` in the reranker's order, which `ranks` then tells as `rerank`."""
    first = hits[:depth]
    scores = reranker.scores(question, [hit.row for hit in first])
    order = sorted(range(len(first)), key=lambda place: -scores[place])
    moved = [
        replace(first[place], ranks={**first[place].ranks, NAME: rank}) for rank, place in enumerate(order, 1)
    ]
    return (*moved, *hits[depth:])


def open_reranker(workspace: Workspace, settings: RetrieveSection, device: str) -> Reranker | None:
    """Load what the configuration names; None where it names none.

    Raises:
        InputError: it is not fetched, or no cross-encoder.
    """
    if settings.rerank is None:
        return None
    return CrossEncoderReranker(resolve_model(workspace, settings.rerank), device)
