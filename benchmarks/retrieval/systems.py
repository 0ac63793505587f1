"""The systems that are compared: each is built in one process and searched in another.

`groundtune` is `rag index` and a search of it; `tutorial` is LangChain's "Build a semantic search engine" with Chroma
and the same embedding model; `stages` is the dense and the lexical stage alone, for more rows than an index of all
parts is wanted for. A build of `stages` goes on where it was stopped.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.retrieval.corpus import NUM_QUESTIONS, MixedEmbeddings, make_questions, make_rows
from data.records import Row, write_records
from rag.config import IndexSection
from rag.embedding import SentenceEmbeddings, load_embeddings
from rag.index import build_index
from rag.knowledge import open_index
from rag.lexical import open_lexical, write_lexical
from rag.row_texts import row_text, row_title
from rag.stages import Query
from rag.store import open_store, update_store, write_store
from rag.vectors import embed_cached

System = Literal["groundtune", "tutorial", "stages"]
_TOP_K = 10
_DEPTH = 50
# Each part begins with a copy of those before.
_ROWS_AT_ONCE = 100_000
_COLLECTION = "example_collection"


def build(
    system: System,
    folder: Path,
    embedding: Path,
    source: Sequence[Row],
    count: int,
    *,
    embed: bool,
    at_most_s: float,
) -> dict[str, Any] | None:
    """Build a system's index of `count` rows in `folder`; returns what it took, or None: to be called again.

    Without `embed`, rows get mixed vectors (benchmarks.retrieval.corpus).
    """
    model = load_embeddings(embedding, num_threads=2)
    rows, pairs = make_rows(source, count)
    embeddings = model if embed else _mixed(folder.parent / "parents.sqlite3", model, source, rows, pairs)
    if system == "stages":
        return _build_stages(folder, embeddings, rows, at_most_s)
    shutil.rmtree(folder, ignore_errors=True)
    write_records(folder / "dataset" / "rows.jsonl", rows)
    started = time.perf_counter()
    if system == "tutorial":
        _build_tutorial(folder, embeddings, rows)
    else:
        build_index(folder / "dataset", embedding, folder / "index", IndexSection(), embeddings)
    taken = time.perf_counter() - started
    model.close()
    return {"build_s": round(taken, 1)}


def _mixed(
    cache: Path,
    model: SentenceEmbeddings,
    source: Sequence[Row],
    rows: Sequence[Row],
    pairs: Sequence[tuple[int, int]],
) -> MixedEmbeddings:
    texts = [row_title(row) for row in source]
    vectors, _ = embed_cached(cache, texts, "parents", lambda some, *_: model.embed(some, "passage"))
    known = {row_title(row): pair for row, pair in zip(rows, pairs, strict=True)}
    known |= {row_text(row): pair for row, pair in zip(rows, pairs, strict=True)}
    known |= {row.answer: (pair[0], pair[0]) for row, pair in zip(rows, pairs, strict=True)}
    return MixedEmbeddings(model, known, np.array(vectors))


def _build_tutorial(folder: Path, embeddings: SentenceEmbeddings, rows: Sequence[Row]) -> None:
    """LangChain's "Build a semantic search engine": documents, Chroma with a folder, add_documents."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document

    store = Chroma(
        collection_name=_COLLECTION,
        embedding_function=embeddings,
        persist_directory=str(folder / "chroma_langchain_db"),
    )
    # The tutorial adds all at once; Chroma takes 5,461 documents at a time.
    for start in range(0, len(rows), 5000):
        part = rows[start : start + 5000]
        documents = [Document(page_content=row_text(row), metadata={"source": row.source}) for row in part]
        store.add_documents(documents=documents, ids=[row.row_id for row in part])


def _build_stages(
    folder: Path, embeddings: SentenceEmbeddings, rows: Sequence[Row], at_most_s: float
) -> dict[str, Any] | None:
    """Put rows into Chroma and into the postings, part by part; a part that was stopped is made again."""
    progress = folder / "progress.json"
    done = json.loads(progress.read_text()) if progress.is_file() else {"num_rows": 0}
    begun = time.perf_counter()
    while done["num_rows"] < len(rows):
        if time.perf_counter() - begun > at_most_s:
            return None
        start = int(done["num_rows"])
        end = min(start + _ROWS_AT_ONCE, len(rows))
        part = rows[start:end]
        before, now = folder / str(start), folder / str(end)
        shutil.rmtree(now, ignore_errors=True)
        now.mkdir(parents=True)
        vectors = embeddings.embed([row_title(row) for row in part], "passage")
        np.save(folder / f"{start}.npy", vectors)
        texts = [row_text(row) for row in part]
        same = {row.row_id: place for place, row in enumerate(rows[:start])}
        if start:
            # Growing is no edit: nothing is marked as deleted in the graph.
            update_store(now / "chroma", before / "chroma", [], part, texts, vectors, 10 * len(rows))
        else:
            write_store(now / "chroma", part, texts, vectors)
        write_lexical(now / "lexical", rows[:end], 3, before / "lexical" if start else None, same)
        done = {"num_rows": end}
        progress.write_text(json.dumps(done))
        shutil.rmtree(before, ignore_errors=True)
    (folder / "ids.json").write_text(json.dumps([row.row_id for row in rows]))
    # In parts, over several runs, as often as not beside other work: the time would say little.
    return {"build_s": None}


class _Loaded:
    """A model that an index opens with, so that memory counts it once for every system."""

    def __init__(self, model: SentenceEmbeddings) -> None:
        self._model = model

    def share_embeddings(self) -> SentenceEmbeddings:
        return self._model.share()


def search(
    system: System, folder: Path, embedding: Path, source: Sequence[Row], threads: int
) -> dict[str, Any]:
    """Open what `build` made, ask the questions, and return times in ms, recall and memory.

    Memory is what opening the index and a first search add to a process that has the embedding model.
    """
    asked = make_questions(source)
    model = load_embeddings(embedding, num_threads=threads)
    vectors = [model.embed([question], "query")[0] for question in asked]
    before_bytes = _resident_bytes()
    opened = {"groundtune": _open_groundtune, "tutorial": _open_tutorial, "stages": _open_stages}[system]
    parts, dense, exact = opened(folder, embedding, model, asked, vectors)
    dense(0)
    for part in parts.values():
        part(0)
    memory = _resident_bytes() - before_bytes
    times = {name: percentiles(part) for name, part in parts.items()}
    if system == "groundtune":
        # Of the same searches, so that they add up.
        taken = [parts["end to end"](number).timings_ms for number in range(NUM_QUESTIONS)]
        times |= {f"of it {name}": _p50_p99([one[name] for one in taken]) for name in ("embed", "retrieve")}
    # What follows reads all vectors, for the exact answer.
    ids, matrix = exact()
    recalls = []
    for number, vector in enumerate(vectors):
        right = {ids[place] for place in np.argsort(-(matrix @ vector))[:_TOP_K]}
        recalls.append(len(right & set(dense(number))) / len(right))
    return {
        "times_ms": times,
        "recall@10": round(float(np.mean(recalls)), 4),
        "memory_mb": round(memory / 1e6, 1),
    }


_Opened = tuple[dict[str, Callable[[int], Any]], Callable[[int], list[str]], Callable[[], tuple[Any, Any]]]


def _open_groundtune(
    folder: Path, embedding: Path, model: SentenceEmbeddings, asked: Sequence[str], vectors: Sequence[Any]
) -> _Opened:
    index = open_index(folder / "index", embedding, share_with=_Loaded(model))

    def dense(number: int) -> list[str]:
        hits = sorted(index.search(asked[number]).hits, key=lambda hit: hit.ranks.get("dense", 10**9))
        return [hit.row.row_id for hit in hits[:_TOP_K]]

    def exact() -> tuple[Any, Any]:
        return [row.row_id for row in index.rows], np.load(index.folder / "vectors.npy")

    return {"end to end": lambda number: index.search(asked[number], _TOP_K)}, dense, exact


def _open_tutorial(
    folder: Path, embedding: Path, model: SentenceEmbeddings, asked: Sequence[str], vectors: Sequence[Any]
) -> _Opened:
    from langchain_chroma import Chroma

    store = Chroma(
        collection_name=_COLLECTION,
        embedding_function=model,
        persist_directory=str(folder / "chroma_langchain_db"),
    )

    def dense(number: int) -> list[str]:
        found = store.similarity_search_by_vector([float(value) for value in vectors[number]], k=_TOP_K)
        return [str(document.id) for document in found]

    def exact() -> tuple[Any, Any]:
        held = store.get(include=["embeddings"])
        return held["ids"], np.array(held["embeddings"])

    parts: dict[str, Callable[[int], Any]] = {
        "end to end": lambda number: store.similarity_search(asked[number], k=_TOP_K),
        "dense": dense,
    }
    return parts, dense, exact


def _open_stages(
    folder: Path, embedding: Path, model: SentenceEmbeddings, asked: Sequence[str], vectors: Sequence[Any]
) -> _Opened:
    ids = json.loads((folder / "ids.json").read_text())
    now = folder / str(len(ids))
    stage = open_store(now / "chroma", model, len(ids))
    lexical = open_lexical(now / "lexical", ids, 0.001)

    def dense(number: int) -> list[str]:
        return [found.row_id for found in stage.rank(Query(asked[number], vectors[number]), _TOP_K)]

    def exact() -> tuple[Any, Any]:
        parts = sorted(folder.glob("*.npy"), key=lambda path: int(path.stem))
        return ids, np.concatenate([np.load(path) for path in parts])

    parts: dict[str, Callable[[int], Any]] = {
        "lexical": lambda number: lexical.rank(Query(asked[number], vectors[number]), _DEPTH),
        "dense": dense,
    }
    return parts, dense, exact


def percentiles(part: Callable[[int], Any]) -> dict[str, float]:
    """Return p50 and p99 in ms of asking every question, after five that do not count."""
    for number in range(5):
        part(number)
    taken = []
    for number in range(NUM_QUESTIONS):
        started = time.perf_counter()
        part(number)
        taken.append((time.perf_counter() - started) * 1e3)
    return _p50_p99(taken)


def _p50_p99(taken_ms: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(taken_ms, share)), 2) for share in (50, 99)}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
