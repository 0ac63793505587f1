"""The rows' vectors in Chroma. The only file that imports chromadb and langchain_chroma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import chromadb
import numpy as np
from chromadb.api.client import Client
from chromadb.config import Settings
from langchain_chroma import Chroma
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

from data.records import Row
from rag.stages import Query, Ranked

_COLLECTION = "rows"


def _client(folder: Path) -> Client:
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    assert isinstance(client, Client), "a local database has a client that can be closed"
    return client


def write_store(
    folder: Path, rows: Sequence[Row], documents: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Make a Chroma database of `rows` in `folder` and close it.

    A row is one document with the row's id, `documents` its text, its fields the metadata; `vectors` has
    shape (len(rows), dims).
    """
    with _client(folder) as client:
        # No embedding function: the vectors are ours, and Chroma's default would be a model of its own.
        collection = client.create_collection(
            _COLLECTION, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        size = client.get_max_batch_size()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            collection.add(
                ids=[row.row_id for row in part],
                embeddings=vectors[start : start + size],
                documents=list(documents[start : start + size]),
                metadatas=[{k: v for k, v in asdict(row).items() if k != "row_id"} for row in part],
            )


class DenseStage:
    """Nearest rows by the cosine of their vectors."""

    name = "dense"
    gain = 1.0

    def __init__(self, client: Client, embeddings: Embeddings) -> None:
        self._client = client
        self._chroma = Chroma(client=client, collection_name=_COLLECTION, embedding_function=embeddings)

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the `depth` nearest rows, nearest first, with their cosines."""
        # What LangChain calls the relevance score here is Chroma's distance.
        found = self._chroma.similarity_search_by_vector_with_relevance_scores(list(query.vector), k=depth)
        return [Ranked(str(document.id), 1.0 - distance) for document, distance in found]

    def vector_store(self) -> VectorStore:
        """The same rows as a LangChain vector store, for people's own chains."""
        return self._chroma

    def close(self) -> None:
        """Let go of the database's files."""
        self._client.close()


def open_store(folder: Path, embeddings: Embeddings) -> DenseStage:
    """Open what `write_store` made; `embeddings` embeds the questions that LangChain asks it."""
    return DenseStage(_client(folder), embeddings)
