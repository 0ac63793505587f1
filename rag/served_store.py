"""The rows' vectors in a Chroma server, a process of its own (the Rust one), for several gateways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
from chromadb.api.client import Client
from chromadb.config import Settings
from chromadb.errors import ChromaError, NotFoundError
from numpy.typing import NDArray

from data.errors import InputError, ServiceError
from data.records import Row
from rag.stages import Query, Ranked
from rag.store import HNSW, DenseStage, put_rows

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

# Longest silence of a server, in seconds: when it is first spoken to, in a search, and while rows are put into it.
_REACH_S = 10.0
_SEARCH_S = 10.0
_FILL_S = 600.0


class VectorServerError(ServiceError):
    """The Chroma server that the configuration names does not answer."""

    code = "index_unavailable"


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
        client = _server(server, _FILL_S)
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
        made = client.create_collection(collection, embedding_function=None, configuration={"hnsw": HNSW})
        put_rows(client, made, rows, documents, vectors)


class ServedDenseStage(DenseStage):
    """Nearest rows, from a server."""

    def rank(self, query: Query, depth: int) -> list[Ranked]:
        """Return the `depth` nearest rows, nearest first, with their cosines.

        Raises:
            VectorServerError: the server does not answer.
        """
        try:
            return super().rank(query, depth)
        except httpx.HTTPError as error:
            raise VectorServerError(f"the Chroma server does not answer ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the server."""
        _let_go(self._client)


def open_served_store(server: str, collection: str, embeddings: Embeddings, num_rows: int) -> DenseStage:
    """Open what `serve_store` put on a Chroma server.

    Raises:
        VectorServerError: the server does not answer.
        InputError: it does not hold the collection with all `num_rows` rows.
    """
    with _server_faults(server):
        client = _server(server, _SEARCH_S)
        try:
            try:
                num_found = client.get_collection(collection, embedding_function=None).count()
            except NotFoundError:
                num_found = -1
            if num_found != num_rows:
                raise InputError(f"{server}: has not this index's version; run `groundtune rag index` again")
            return ServedDenseStage(client, embeddings, collection)
        except BaseException:
            _let_go(client)
            raise


def _server(address: str, silence_s: float) -> Client:
    """Return a client that waits no longer than `silence_s` for an answer."""
    # chromadb's own first request would wait for ever.
    httpx.get(f"{address}/api/v2/heartbeat", timeout=_REACH_S).raise_for_status()
    parts = urlsplit(address)
    client = chromadb.HttpClient(
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
        ssl=parts.scheme == "https",
        settings=Settings(anonymized_telemetry=False),
    )
    assert isinstance(client, Client), "a server's client can be closed"
    for session in _sessions(client):
        session.timeout = httpx.Timeout(silence_s, connect=_REACH_S)
    return client


def _let_go(client: Client) -> None:
    """Close a client, and the connections to a server that chromadb's own `close` leaves to the garbage collector."""
    sessions = _sessions(client)
    client.close()
    for session in sessions:
        session.close()


def _sessions(client: Client) -> list[httpx.Client]:
    """Return what a client sends its requests with: one of its own and one of its administrator.

    Private in chromadb, which has no setting for what it waits and leaves them open.
    """
    owners = (client, getattr(client, "_admin_client", None))
    found = (getattr(getattr(owner, "_server", None), "_session", None) for owner in owners)
    return [session for session in found if isinstance(session, httpx.Client)]


@contextmanager
def _server_faults(address: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ChromaError, ValueError) as error:
        raise VectorServerError(
            f"{address}: no Chroma server that can be used ({' '.join(str(error).split())[:200]}); start it with "
            "`chroma run`, or leave index.chroma_url out"
        ) from error
