"""Embedding texts with a local sentence-transformers folder. The only file that imports sentence_transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import torch
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from data.errors import InputError
from rag.config import Precision

Kind = Literal["query", "passage"]
Vectors = NDArray[np.float32]


def _ignore(_done: int) -> None: ...


class SentenceEmbeddings(Embeddings):
    """An embedding model, as LangChain knows one; safe to call from any thread.

    All work is done by one thread of its own: the tokenizer is not re-entrant, and OpenMP would start a team
    of threads for each thread that calls.
    """

    def __init__(self, model: SentenceTransformer, *, batch_size: int, num_threads: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._worker = ThreadPoolExecutor(1, "embedding", torch.set_num_threads, (num_threads,))
        self._num_users = 1
        self._users_lock = Lock()

    @property
    def dims(self) -> int:
        """The length of a vector."""
        dims = self._model.get_embedding_dimension()
        assert dims is not None, "a text model has a dimension"
        return int(dims)

    def embed(
        self, texts: Sequence[str], kind: Kind, on_progress: Callable[[int], None] = _ignore
    ) -> Vectors:
        """Return float32 vectors (len(texts), dims), L2-normalised.

        `kind` chooses the model's prompt ("query: ", "passage: "). `on_progress` gets the number of texts done
        so far, after each batch.
        """
        vectors: Vectors = np.empty((len(texts), self.dims), dtype=np.float32)
        # Batches of like length, so that little of a batch is padding.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            batch = [texts[place] for place in places]
            vectors[places] = self._worker.submit(self._encode, batch, kind).result()
            on_progress(start + len(places))
        return vectors

    def _encode(self, batch: list[str], kind: Kind) -> Vectors:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = encode(
            batch,
            batch_size=len(batch),
            show_progress_bar=False,
            convert_to_tensor=True,
            normalize_embeddings=True,
        )
        # In half precision a vector's length is 1 to three digits only.
        exact = torch.nn.functional.normalize(vectors.float(), dim=-1)
        return exact.cpu().numpy()

    def share(self) -> SentenceEmbeddings:
        """Return this model for a second user: it ends when each has closed it."""
        with self._users_lock:
            self._num_users += 1
        return self

    def close(self) -> None:
        """End the thread once the last user closes it; nothing can be embedded afterwards."""
        with self._users_lock:
            self._num_users -= 1
            if self._num_users > 0:
                return
        self._worker.shutdown()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be found (LangChain's interface)."""
        return [[float(value) for value in vector] for vector in self.embed(texts, "passage")]

    def embed_query(self, text: str) -> list[float]:
        """Embed a question (LangChain's interface)."""
        return [float(value) for value in self.embed([text], "query")[0]]


def load_embeddings(
    folder: Path,
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    max_tokens: int = 512,
    batch_size: int = 16,
    num_threads: int = 1,
) -> SentenceEmbeddings:
    """Load a sentence-transformers folder; nothing of it is run or unpickled, nothing is downloaded.

    Raises:
        InputError: the folder is not there or is not such a model.
    """
    if not (folder / "modules.json").is_file():
        raise InputError(
            f"{folder}: no sentence-transformers model (modules.json); fetch it with `groundtune models fetch`, "
            "or set models.embedding to the folder of one"
        )
    dtype = torch.bfloat16 if _in_bfloat16(precision, device) else torch.float32
    try:
        with _quiet_loading():
            model = SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder}: cannot be loaded as an embedding model ({' '.join(str(error).split())}); fetch it again"
        ) from error
    limit = model.max_seq_length
    model.max_seq_length = min(limit, max_tokens) if limit else max_tokens
    return SentenceEmbeddings(model, batch_size=batch_size, num_threads=num_threads)


def _in_bfloat16(precision: Precision, device: str) -> bool:
    """Tell whether to compute in bfloat16; `auto` asks the CPU, since emulating it is slower than float32."""
    if precision == "auto" and device == "cpu":
        try:
            flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return precision != "float32"


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bar off stderr for the second that loading takes."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
