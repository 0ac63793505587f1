"""The rows' vectors in Chroma. The only file that imports chromadb and langchain_chroma.

A row is one document: the row's id, its text, its fields as metadata, its vector. Where a row stands in the
workbook (`source`) is left out: a row put in above moves all below it, and rows.jsonl says it anyway.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateHNSWConfiguration
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings
from chromadb.errors import ChromaError
from numpy.typing import NDArray

from data.errors import InputError, ServiceError
from data.records import Row
from rag.filters import Part
from rag.stages import Query, Ranked

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore


class VectorServerError(ServiceError):
    """The Chroma server that the configuration names does not answer."""

    code = "index_unavailable"


_COLLECTION = "rows"
_DATABASE = "chroma.sqlite3"
_EDITS = "num_edits"
# With Chroma's defaults (100 and 100), patients' questions found .915 of the 10 nearest of 10,000 rows, with these
# .990, for less than a millisecond: questions lie apart from the rows that the graph was made of.
_HNSW: CreateHNSWConfiguration = {"space": "cosine", "ef_construction": 200, "ef_search": 400}
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
            configuration={"hnsw": _HNSW},
            metadata={_EDITS: 0},
        )
        _put(client, collection, rows, documents, vectors)


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
            _put(client, collection, rows, documents, vectors)
            collection.modify(metadata={_EDITS: edits})
    if not few:
        shutil.rmtree(folder)
    return few


def _put(
    client: Client,
    collection: Collection,
    rows: Sequence[Row],
    documents: Sequence[str],
    vectors: NDArray[np.float32],
) -> None:
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


def serve_store(
    server: str,
    collection: str,
    rows: Sequence[Row],
    documents: Sequence[str],
    vectors: NDArray[np.float32],
    keep: Set[str],
) -> None:
    """Put `rows` into a collection of a Chroma server, unless it is there whole.

    Nobody reads a collection before the index of its name is current, so that one which a killed run left half-filled
    is made anew. Of the collections of this index (those that begin as `collection` does up to its last "-") all but
    `keep` are dropped.

    Raises:
        VectorServerError: the server does not answer.
    """
    with _server_faults(server), ExitStack() as closing_last:
        client = _server(server)
        closing_last.callback(_let_go, client)
        names = [found.name for found in client.list_collections()]
        prefix = collection.rpartition("-")[0] + "-"
        for name in names:
            if name.startswith(prefix) and name != collection and name not in keep:
                client.delete_collection(name)
        if collection in names:
            if client.get_collection(collection, embedding_function=None).count() == len(rows):
                return
            client.delete_collection(collection)
        made = client.create_collection(collection, embedding_function=None, configuration={"hnsw": _HNSW})
        _put(client, made, rows, documents, vectors)


def _server(address: str) -> Client:
    parts = urlsplit(address)
    client = chromadb.HttpClient(
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
        ssl=parts.scheme == "https",
        settings=Settings(anonymized_telemetry=False),
    )
    assert isinstance(client, Client), "a server's client can be closed"
    return client


def _let_go(client: Client) -> None:
    """Close a client, and the connections to a server that chromadb's own `close` leaves to the garbage collector."""
    # One of the client and one of its administrator; private, and not there in a local database's client.
    owners = (client, getattr(client, "_admin_client", None))
    sessions = [getattr(getattr(owner, "_server", None), "_session", None) for owner in owners]
    client.close()
    for session in sessions:
        if isinstance(session, httpx.Client):
            session.close()


@contextmanager
def _server_faults(address: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ChromaError, ValueError) as error:
        raise VectorServerError(
            f"{address}: no Chroma server that can be used ({' '.join(str(error).split())[:200]}); start it with "
            "`chroma run`, or leave index.chroma_url out"
        ) from error


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
        try:
            found = self._collection.query(
                query_embeddings=np.asarray([query.vector], np.float32),
                n_results=depth,
                where=_where(query.part),
                include=["distances"],
            )
        except httpx.HTTPError as error:
            raise VectorServerError(f"the Chroma server does not answer ({type(error).__name__})") from error
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
        """Let go of the database's files, or of the server."""
        _let_go(self._client)


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


def open_served_store(server: str, collection: str, embeddings: Embeddings, num_rows: int) -> DenseStage:
    """Open what `serve_store` put on a Chroma server.

    Raises:
        VectorServerError: the server does not answer.
        InputError: it does not hold the collection with all `num_rows` rows.
    """
    with _server_faults(server):
        client = _server(server)
        try:
            names = [found.name for found in client.list_collections()]
            whole = (
                collection in names
                and client.get_collection(collection, embedding_function=None).count() == num_rows
            )
            if not whole:
                raise InputError(f"{server}: has not this index's version; run `groundtune rag index` again")
            return DenseStage(client, embeddings, collection)
        except BaseException:
            _let_go(client)
            raise
