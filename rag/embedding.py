"""Embedding texts with a local sentence-transformers folder. The only file that imports sentence_transformers.

On a CPU a BERT with mean pooling, as the default is, is run by rag.bert; anything else by sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from data.errors import InputError
from data.models.arithmetic import gains_by_bfloat16
from rag.bert import load_bert, read_shape
from rag.config import Precision
from rag.endpoint import EndpointEncoder, read_endpoint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Kind = Literal["query", "passage"]
Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """A loaded model; called from one thread."""

    @property
    def dims(self) -> int:
        """The length of a vector."""

    def encode(self, texts: Sequence[str], kind: Kind) -> Vectors:
        """Return float32 vectors (len(texts), dims), L2-normalised."""


def _ignore(_done: int) -> None: ...


class SentenceEmbeddings(Embeddings):
    """An embedding model, as LangChain knows one; safe to call from any thread.

    All work is done by one thread of its own, loading included: the tokenizer is not re-entrant, and OpenMP starts a
    team of threads for each thread that calls. With two teams there are more threads than cores; they then sleep
    between two products rather than wait, and a question takes half as long again.
    """

    def __init__(self, load: Callable[[], Encoder], *, batch_size: int, num_threads: int) -> None:
        """Load the model; raises what `load` raises."""
        self._batch_size = batch_size
        self._worker = ThreadPoolExecutor(1, "embedding", torch.set_num_threads, (num_threads,))
        try:
            self._encoder = self._worker.submit(load).result()
        except BaseException:
            self._worker.shutdown()
            raise
        self._num_users = 1
        self._users_lock = Lock()

    @property
    def dims(self) -> int:
        """The length of a vector."""
        return self._encoder.dims

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
            vectors[places] = self._worker.submit(self._encoder.encode, batch, kind).result()
            on_progress(start + len(places))
        return vectors

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


class TransformerEncoder:
    """Any model that sentence-transformers loads."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    @property
    def dims(self) -> int:
        """The length of a vector."""
        dims = self._model.get_embedding_dimension()
        assert dims is not None, "a text model has a dimension"
        return int(dims)

    def encode(self, texts: Sequence[str], kind: Kind) -> Vectors:
        """Return float32 vectors (len(texts), dims), L2-normalised."""
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = encode(
            list(texts),
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_tensor=True,
            normalize_embeddings=True,
        )
        # In half precision a vector's length is 1 to three digits only.
        exact = torch.nn.functional.normalize(vectors.float(), dim=-1)
        return exact.cpu().numpy()


def load_embeddings(
    folder: Path,
    *,
    precision: Precision = "auto",
    device: str = "cpu",
    max_tokens: int = 512,
    batch_size: int = 16,
    num_threads: int = 1,
) -> SentenceEmbeddings:
    """Load a sentence-transformers folder, or open an endpoint (rag.endpoint); nothing of a folder is run or
    unpickled, nothing is downloaded.

    Raises:
        InputError: the folder is not there or is not such a model.
    """
    if (endpoint := read_endpoint(folder)) is not None:
        reached = partial(EndpointEncoder, endpoint)
        return SentenceEmbeddings(reached, batch_size=batch_size, num_threads=num_threads)
    if not (folder / "modules.json").is_file():
        raise InputError(
            f"{folder}: no sentence-transformers model (modules.json); fetch it with `groundtune models fetch`, "
            "or set models.embedding to the folder of one"
        )
    dtype = torch.bfloat16 if _in_bfloat16(precision, device) else torch.float32
    shape = read_shape(folder) if device == "cpu" else None

    def load() -> Encoder:
        if shape is not None:
            return load_bert(folder, shape, dtype, max_tokens)
        return load_transformer(folder, dtype, device, max_tokens)

    try:
        return SentenceEmbeddings(load, batch_size=batch_size, num_threads=num_threads)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder}: cannot be loaded as an embedding model ({' '.join(str(error).split())}); fetch it again"
        ) from error


def load_transformer(folder: Path, dtype: torch.dtype, device: str, max_tokens: int) -> TransformerEncoder:
    """Load a folder with sentence-transformers.

    Raises:
        OSError, ValueError, KeyError: it is no such model.
    """
    # Imported here: it takes seconds, and the default model does without.
    from sentence_transformers import SentenceTransformer

    with quiet_loading():
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    limit = model.max_seq_length
    model.max_seq_length = min(limit, max_tokens) if limit else max_tokens
    return TransformerEncoder(model)


def _in_bfloat16(precision: Precision, device: str) -> bool:
    """Tell whether to compute in bfloat16; `auto` asks the CPU."""
    return gains_by_bfloat16() if precision == "auto" and device == "cpu" else precision != "float32"


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bar off stderr for the second that loading takes."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
