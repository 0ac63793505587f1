"""Embeds what is not in the cache yet, with a progress bar; loads the model when there is something to embed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from data.artefacts import digest_of
from rag.config import IndexSection
from rag.embedding import SentenceEmbeddings, load_embeddings
from rag.vectors import Vectors, embed_cached, forget_unused

_COLUMNS = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


class CachedEmbedder:
    """An embedding model with the vectors that it made before; a context manager.

    Args:
        cache: The database of vectors (rag.vectors).
        digest: That of the model's folder.
        folder: The model's.
        settings: Of the index; of them max_tokens is part of what a vector depends on.
        embeddings: The model where it is loaded already; it is not closed.
    """

    def __init__(
        self,
        cache: Path,
        digest: str,
        folder: Path,
        settings: IndexSection,
        embeddings: SentenceEmbeddings | None = None,
    ) -> None:
        self._cache = cache
        self._digest = digest
        self._folder = folder
        self._settings = settings
        self._given = embeddings
        self._loaded = embeddings

    def __enter__(self) -> CachedEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._loaded is not None and self._loaded is not self._given:
            self._loaded.close()

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> tuple[Vectors, int]:
        """Return float32 vectors (len(texts), dims), L2-normalised, and how many texts had to be embedded."""
        with Progress(*_COLUMNS, console=Console(file=sys.stderr), transient=True) as progress:
            task = progress.add_task("embedding", total=None, visible=False)

            def embed(some: Sequence[str], before: int, total: int) -> Vectors:
                progress.update(task, total=total, visible=True)
                return self._embed(some, kind, progress, task, before)

            return embed_cached(self._cache, texts, self._recipe(kind), embed)

    def _embed(
        self,
        texts: Sequence[str],
        kind: Literal["query", "passage"],
        progress: Progress,
        task: TaskID,
        before: int,
    ) -> Vectors:
        if self._loaded is None:
            self._loaded = load_embeddings(
                self._folder,
                precision=self._settings.precision,
                device=self._settings.device,
                max_tokens=self._settings.max_tokens,
                batch_size=self._settings.batch_size,
                # Nothing else waits for these cores, as engines do while questions are embedded.
                num_threads=max(self._settings.threads, torch.get_num_threads()),
            )
        return self._loaded.embed(texts, kind, lambda done: progress.update(task, completed=before + done))

    def forget_others(self, texts: Iterable[str], kind: Literal["query", "passage"], at_most: int) -> None:
        """Once the cache holds over `at_most` vectors, drop all but those of `texts`."""
        forget_unused(self._cache, texts, self._recipe(kind), at_most=at_most)

    def _recipe(self, kind: Literal["query", "passage"]) -> str:
        return digest_of([self._digest, kind, self._settings.max_tokens])
