"""The rows' vectors in a Chroma database in a folder. Only this file and rag.served_store import chromadb.

A row is one document: the row's id, its text, its fields as metadata, its vector. Where a row stands in the
workbook (`source`) is left out: a row put in above moves all below it, and rows.jsonl says it anyway.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chromadb
import numpy as np
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateHNSWConfiguration
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings
from numpy.typing import NDArray

from data.errors import InputError
from data.records import Row
from rag.filters import Part
from rag.stages import Query, Ranked

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore


_COLLECTION = "rows"
_DATABASE = "chroma.sqlite3"
_EDITS = "num_edits"
# With Chroma's defaults (100 and 100), patients' questions found .915 of the 10 nearest of 10,000 rows, with these
# .990, for less than a millisecond: questions lie apart from the rows that the graph was made of.
HNSW: CreateHNSWConfiguration = {"space": "cosine", "ef_construction": 200, "ef_search": 400}
# HNSW only marks what is deleted, and finds less the more of it there is.
_MOST_EDITED = 0.2
_READ_AT_ONCE = 5000


def _client(folder: Path) -> Client:
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    assert isinstance(client, Client), "a local database has a client that can be closed"
    return client


def write_store(
    folder: Path, rows: Sequence[Row], documents: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Make a Chroma database of `rows` in `folder` and close it.

    `documents` are the rows' texts; `vectors` has shape (len(rows), dims).
    """
    with _client(folder) as client:
        # No embedding function: the vectors are ours, and Chroma's default would be a model of its own.
        collection = client.create_collection(
            _COLLECTION,
            embedding_function=None,
            configuration={"hnsw": HNSW},
            metadata={_EDITS: 0},
        )
        put_rows(client, collection, rows, documents, vectors)


def update_store(
    folder: Path,
    source: Path,
    removed: Sequence[str],
    rows: Sequence[Row],
    documents: Sequence[str],
    vectors: NDArray[np.float32],
    num_before: int,
) -> bool:
    """Make a database in `folder` that is `source` without the ids `removed`, and with `rows` put in.

    `rows`, `documents` and `vectors` are the new and the changed ones; `num_before` rows are in `source`, which stays
    as it is and may be read meanwhile.

    Returns:
        Whether it was done. When a fifth of the rows has been edited since the database was made from nothing, it
        is to be made so again, and `folder` is not there.
    """
    _copy(source, folder)
    with _client(folder) as client:
        collection = client.get_collection(_COLLECTION, embedding_function=None)
        edits = int((collection.metadata or {}).get(_EDITS, 0)) + len(removed) + len(rows)
        few = edits <= max(1, int(num_before * _MOST_EDITED))
        if few:
            size = client.get_max_batch_size()
            for start in range(0, len(removed), size):
                collection.delete(ids=list(removed[start : start + size]))
            put_rows(client, collection, rows, documents, vectors)
            collection.modify(metadata={_EDITS: edits})
    if not few:
        shutil.rmtree(folder)
    return few


def put_rows(
    client: Client,
    collection: Collection,
    rows: Sequence[Row],
    documents: Sequence[str],
    vectors: NDArray[np.float32],
) -> None:
    """Put rows into a collection, as many at once as the client takes."""
    size = client.get_max_batch_size()
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        collection.upsert(
            ids=[row.row_id for row in part],
            embeddings=vectors[start : start + size],
            documents=list(documents[start : start + size]),
            metadatas=[_fields(row) for row in part],
        )


def _fields(row: Row) -> dict[str, str]:
    return {name: value for name, value in asdict(row).items() if name not in ("row_id", "source")}


def _copy(source: Path, folder: Path) -> None:
    # Chroma writes to its database when it opens it. A transaction that reads keeps others from writing.
    with closing(sqlite3.connect(f"{source.resolve().as_uri()}/{_DATABASE}?mode=rw", uri=True)) as database:
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*-journal", "*-wal", "*-shm"))


def check_store(
    folder: Path, rows: Sequence[Row], documents: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Compare every document, its fields and its vector with what they were made of.

    Recorded digests cannot say this: Chroma changes its files when it opens them.

    Raises:
        InputError: something is missing, left over or different.
    """
    place_of = {row.row_id: place for place, row in enumerate(rows)}
    with _client(folder) as client:
        collection = client.get_collection(_COLLECTION, embedding_function=None)
        num_found = collection.count()
        if num_found != len(rows):
            raise InputError(f"{folder}: holds {num_found} rows, not {len(rows)}; run `groundtune rag index`")
        for start in range(0, num_found, _READ_AT_ONCE):
            part = collection.get(
                include=["documents", "metadatas", "embeddings"], limit=_READ_AT_ONCE, offset=start
            )
            texts, fields, found = part["documents"], part["metadatas"], part["embeddings"]
            assert texts is not None and fields is not None and found is not None, "all three were asked for"
            for at, row_id in enumerate(part["ids"]):
                place = place_of.pop(row_id, None)
                if (
                    place is None
                    or texts[at] != documents[place]
                    or dict(fields[at]) != _fields(rows[place])
                    or not np.allclose(np.asarray(found[at]), vectors[place], atol=1e-5)
                ):
                    raise InputError(
                        f"{folder}: row {row_id} is not the one of rows.jsonl; run `groundtune rag index`"
                    )


class DenseStage:
    """Nearest rows by the cosine of their vectors."""

    name = "dense"
    gain = 1.0

    def __init__(self, client: Client, embeddings: Embeddings, collection: str = _COLLECTION) -> None:
        from langchain_chroma import Chroma

        self._client = client
        self._chroma = Chroma(client=client, collection_name=collection, embedding_function=embeddings)
        self._collection = client.get_collection(collection, embedding_function=None)

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the `depth` nearest rows, nearest first, with their cosines."""
        # Not through LangChain, which fetches the rows' texts too: three quarters of the time, and nobody reads them.
        found = self._collection.query(
            query_embeddings=np.asarray([query.vector], np.float32),
            n_results=depth,
            where=_where(query.part),
            include=["distances"],
        )
        distances = found["distances"]
        assert distances is not None, "they were asked for"
        return [
            Ranked(row_id, 1.0 - distance)
            for row_id, distance in zip(found["ids"][0], distances[0], strict=True)
        ]

    def vector_store(self) -> VectorStore:
        """The same rows as a LangChain vector store, for people's own chains."""
        return self._chroma

    def close(self) -> None:
        """Let go of the database's files."""
        self._client.close()


def _where(part: Part | None) -> dict[str, Any] | None:
    """Return a part of the rows as Chroma's condition on their fields."""
    if part is None:
        return None
    conditions = [{name: {"$in": list(values)}} for name, values in part.values.items()]
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}


def open_store(folder: Path, embeddings: Embeddings, num_rows: int) -> DenseStage:
    """Open what `write_store` made; `embeddings` embeds the questions that LangChain asks it.

    Raises:
        InputError: it does not hold `num_rows` rows.
    """
    client = _client(folder)
    try:
        num_found = client.get_collection(_COLLECTION, embedding_function=None).count()
        if num_found != num_rows:
            raise InputError(
                f"{folder}: holds {num_found} rows, not {num_rows}; run `groundtune rag index` again"
            )
        return DenseStage(client, embeddings)
    except BaseException:
        client.close()
        raise
