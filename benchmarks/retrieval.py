"""Times searches of an index of any size, and of LangChain with Chroma as its tutorial has it, in one run.

    PYTHONPATH=. python benchmarks/retrieval.py WORKBOOK.xlsx EMBEDDING_FOLDER [--rows 10000 100000] [--map Q=Question]

Rows are made of the workbook's: each question joins the beginning of one to the end of another, so that terms are as
frequent as in real text. Up to --embed rows are embedded; for more, a row's vector is the normalised mean of its two
parents' real vectors with a little noise ("vectors": "mixed" in the result), since embedding a hundred thousand rows
takes an hour on two cores. Questions are always embedded by the model. From --stages-only rows on, only the dense and
the lexical stage are built and searched.

Each system of each size is built in one process and searched in another, whose resident memory is what is reported.
Writes benchmarks/results/retrieval.json and .png.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from data.records import Row, read_records, revision_of, row_id_of, write_records
from data.row_source import RowSource, read_rows
from rag.config import IndexSection
from rag.embedding import SentenceEmbeddings, load_embeddings
from rag.index import build_index, row_text, row_title
from rag.knowledge import open_index
from rag.lexical import open_lexical, write_lexical
from rag.stages import Query
from rag.store import open_store, write_store
from rag.vectors import embed_cached

_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("chromadb", "langchain-chroma", "sentence-transformers", "torch", "numpy")
_MOST_PARENTS = 1000
_NUM_QUESTIONS = 200
_QUESTION_CHARACTERS = 60
_TOP_K = 10
_NOISE = 0.02


class MixedEmbeddings(SentenceEmbeddings):
    """The model for questions; for rows the mean of their parents' vectors, looked up by text."""

    def __init__(self, model: SentenceEmbeddings, parents: dict[str, tuple[int, int]], vectors: Any) -> None:
        self._real, self._parents, self._vectors = model, parents, vectors
        self._noise = np.random.default_rng(1)

    @property
    def dims(self) -> int:
        return int(self._vectors.shape[1])

    def embed(
        self, texts: Sequence[str], kind: Any, on_progress: Callable[[int], None] = lambda _: None
    ) -> Any:
        if kind == "query":
            return self._real.embed(texts, kind, on_progress)
        pairs = np.array([self._parents[text] for text in texts])
        mixed = self._vectors[pairs[:, 0]] + self._vectors[pairs[:, 1]]
        mixed = mixed + _NOISE * self._noise.standard_normal(mixed.shape)
        on_progress(len(texts))
        return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)

    def close(self) -> None: ...


def make_rows(source: Sequence[Row], count: int) -> tuple[list[Row], list[tuple[int, int]]]:
    """Return `count` different rows, and the places of each one's two parents."""
    chance = random.Random(1)
    rows: list[Row] = []
    parents: list[tuple[int, int]] = []
    seen: set[str] = set()
    while len(rows) < count:
        begin, end = chance.randrange(len(source)), chance.randrange(len(source))
        a, b = source[begin], source[end]
        cut = chance.randint(len(a.question) // 2, len(a.question))
        question = a.question[:cut] + b.question[chance.randint(0, len(b.question) // 2) :]
        row_id = row_id_of(a.info_1, a.info_2, question)
        if row_id in seen:
            question += f" {len(rows)}"
            row_id = row_id_of(a.info_1, a.info_2, question)
        seen.add(row_id)
        place = f"rows.xlsx#Sheet1!A{len(rows) + 2}"
        rows.append(Row(row_id, revision_of(a.answer), a.info_1, a.info_2, question, a.answer, place))
        parents.append((begin, end))
    return rows, parents


def make_questions(source: Sequence[Row]) -> list[str]:
    """Return questions of 60 characters, each a row's, told with the beginning of another's answer."""
    chance = random.Random(2)
    asked = []
    for _ in range(_NUM_QUESTIONS):
        row, other = chance.choice(source), chance.choice(source)
        asked.append(f"{row.question} {other.answer}"[:_QUESTION_CHARACTERS])
    return asked


def build(
    system: str, folder: Path, embedding: Path, count: int, mode: str, source: Sequence[Row]
) -> dict[str, Any]:
    """Build a system's index of `count` rows in `folder`; returns what it took."""
    model = load_embeddings(embedding, num_threads=2)
    rows, pairs = make_rows(source, count)
    embeddings = model
    if mode != "embedded":
        cache = folder.parent / "parents.sqlite3"
        texts = [row_title(row) for row in source]
        vectors, _ = embed_cached(cache, texts, "parents", lambda some, *_: model.embed(some, "passage"))
        known = {row_title(row): pair for row, pair in zip(rows, pairs, strict=True)}
        known |= {row_text(row): pair for row, pair in zip(rows, pairs, strict=True)}
        known |= {row.answer: (pair[0], pair[0]) for row, pair in zip(rows, pairs, strict=True)}
        embeddings = MixedEmbeddings(model, known, np.array(vectors))
    started = time.perf_counter()
    if system == "tutorial":
        _build_tutorial(folder, embeddings, rows)
    elif mode == "stages":
        (folder / "index").mkdir(parents=True)
        write_records(folder / "rows.jsonl", rows)
        texts = [row_title(row) for row in rows]
        vectors = embeddings.embed(texts, "passage")
        np.save(folder / "vectors.npy", vectors)
        write_store(folder / "index" / "chroma", rows, [row_text(row) for row in rows], vectors)
        write_lexical(folder / "index" / "lexical", rows, 3)
    else:
        write_records(folder / "dataset" / "rows.jsonl", rows)
        build_index(folder / "dataset", embedding, folder / "index", IndexSection(), embeddings)
    model.close()
    return {"build_s": round(time.perf_counter() - started, 1)}


def _build_tutorial(folder: Path, embeddings: SentenceEmbeddings, rows: Sequence[Row]) -> None:
    """LangChain's "Build a semantic search engine": documents, Chroma with a folder, add_documents."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document

    store = Chroma(
        collection_name="example_collection",
        embedding_function=embeddings,
        persist_directory=str(folder / "chroma_langchain_db"),
    )
    # The tutorial adds all at once; Chroma takes 5,461 documents at a time.
    for start in range(0, len(rows), 5000):
        part = rows[start : start + 5000]
        documents = [Document(page_content=row_text(row), metadata={"source": row.source}) for row in part]
        store.add_documents(documents=documents, ids=[row.row_id for row in part])


def search(system: str, folder: Path, embedding: Path, mode: str, source: Sequence[Row]) -> dict[str, Any]:
    """Open what `build` made, ask the questions, and return times in ms, recall and memory."""
    asked = make_questions(source)
    model = load_embeddings(embedding, num_threads=2)
    vectors = [model.embed([question], "query")[0] for question in asked]
    before_bytes = _resident_bytes()
    parts: dict[str, Callable[[int], Any]] = {}
    if system == "tutorial":
        from langchain_chroma import Chroma

        store = Chroma(
            collection_name="example_collection",
            embedding_function=model,
            persist_directory=str(folder / "chroma_langchain_db"),
        )
        parts["end to end"] = lambda n: store.similarity_search(asked[n], k=_TOP_K)

        def dense(n: int) -> list[str]:
            found = store.similarity_search_by_vector([float(value) for value in vectors[n]], k=_TOP_K)
            return [str(document.id) for document in found]

        # The first search makes Chroma read its index; what follows reads everything, for the exact answer.
        dense(0)
        memory = _resident_bytes() - before_bytes
        held = store.get(include=["embeddings"])
        ids, matrix = held["ids"], np.array(held["embeddings"])
    elif mode == "stages":
        rows = read_records(folder / "rows.jsonl", Row)
        ids = [row.row_id for row in rows]
        stage = open_store(folder / "index" / "chroma", model, len(rows))
        lexical = open_lexical(folder / "index" / "lexical", ids, 0.001)
        parts["lexical"] = lambda n: lexical.rank(Query(asked[n], vectors[n]), 50)

        def dense(n: int) -> list[str]:
            return [found.row_id for found in stage.rank(Query(asked[n], vectors[n]), _TOP_K)]

        dense(0)
        parts["lexical"](0)
        memory = _resident_bytes() - before_bytes
        matrix = np.load(folder / "vectors.npy")
    else:
        index = open_index(folder / "index", embedding, index_settings=IndexSection(threads=2))
        index.search(asked[0], _TOP_K)
        memory = _resident_bytes() - before_bytes
        ids, matrix = [row.row_id for row in index.rows], np.load(index.folder / "vectors.npy")
        parts["end to end"] = lambda n: index.search(asked[n], _TOP_K)

        def dense(n: int) -> list[str]:
            hits = sorted(index.search(asked[n]).hits, key=lambda hit: hit.ranks.get("dense", 10**9))
            return [hit.row.row_id for hit in hits[:_TOP_K]]

    if mode == "stages" or system == "tutorial":
        parts["dense"] = dense
    recalls = []
    for number, vector in enumerate(vectors):
        exact = {ids[place] for place in np.argsort(-(matrix @ vector))[:_TOP_K]}
        recalls.append(len(exact & set(dense(number))) / len(exact))
    times = {name: _percentiles(part) for name, part in parts.items()}
    return {
        "times_ms": times,
        "recall@10": round(float(np.mean(recalls)), 4),
        "memory_mb": round(memory / 1e6, 1),
    }


def _percentiles(part: Callable[[int], Any]) -> dict[str, float]:
    for number in range(5):
        part(number)
    taken = []
    for number in range(_NUM_QUESTIONS):
        started = time.perf_counter()
        part(number)
        taken.append((time.perf_counter() - started) * 1e3)
    return {f"p{share}": round(float(np.percentile(taken, share)), 2) for share in (50, 99)}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _in_process(arguments: Sequence[str], step: str, system: str, count: int, mode: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments, "--step", step, system, str(count), mode]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _command(options: argparse.Namespace, sizes: Sequence[int]) -> str:
    mapping = f" --map {' '.join(options.map)}" if options.map else ""
    return (
        f"python benchmarks/retrieval.py {options.workbook.name} {options.embedding.name} "
        f"--rows {' '.join(map(str, sizes))} --embed {options.embed} --stages-only {options.stages_only}{mapping}"
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Write a PNG: p50 and p99 of a search by the number of rows, a line a system."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), dpi=120, layout="constrained")
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for run in result["runs"]:
        for part, times in run["times_ms"].items():
            lines.setdefault(f"{run['system']}: {part}", []).append((run["rows"], times["p50"], times["p99"]))
    for name, points in sorted(lines.items()):
        sizes, p50, p99 = zip(*sorted(points), strict=True)
        (line,) = axes.plot(sizes, p50, "o-", label=f"{name}, p50")
        axes.plot(sizes, p99, "x:", color=line.get_color(), label=f"{name}, p99")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows")
    axes.set_ylabel("ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workbook", type=Path)
    parser.add_argument("embedding", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--embed", type=int, default=10_000, help="embed the rows up to this size")
    parser.add_argument("--stages-only", type=int, default=500_000)
    parser.add_argument("--map", nargs="*", default=[], help="FIELD=HEADER, as for data prepare")
    parser.add_argument("--folder", type=Path, default=Path("var/bench/retrieval"))
    parser.add_argument("--out", type=Path, default=_RESULTS / "retrieval.json")
    parser.add_argument("--add", action="store_true", help="keep the runs of other sizes that --out holds")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    mapping = dict(part.split("=", 1) for part in options.map)
    source = [row for row in read_rows(RowSource(options.workbook, mapping=mapping)) if row.question.strip()][
        :_MOST_PARENTS
    ]
    if options.step:
        step, system, count, mode = options.step
        folder = options.folder / f"{system}-{count}"
        if step == "build":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            print(json.dumps(build(system, folder, options.embedding, int(count), mode, source)))
        else:
            print(json.dumps(search(system, folder, options.embedding, mode, source)))
        return
    result: dict[str, Any] = {
        "machine": describe_machine(_PACKAGES),
        "workbook": options.workbook.name,
        "embedding": options.embedding.name,
        "questions": {"number": _NUM_QUESTIONS, "characters": _QUESTION_CHARACTERS},
        "runs": [],
    }
    if options.add and options.out.is_file():
        before = json.loads(options.out.read_text(encoding="utf-8"))
        same = ("workbook", "embedding", "questions")
        if [before[name] for name in same] != [result[name] for name in same]:
            parser.error(f"{options.out}: of another workbook, embedding or other questions; leave out --add")
        result["runs"] = [run for run in before["runs"] if run["rows"] not in options.rows]
    for count in options.rows:
        mode = "embedded" if count <= options.embed else "mixed" if count < options.stages_only else "stages"
        for system in ("groundtune", "tutorial"):
            if system == "tutorial" and mode == "stages":
                continue
            print(f"{system}, {count} rows", file=sys.stderr)
            run = {"system": system, "rows": count, "vectors": "embedded" if mode == "embedded" else "mixed"}
            run |= _in_process(sys.argv[1:], "build", system, count, mode)
            run |= _in_process(sys.argv[1:], "search", system, count, mode)
            print(json.dumps(run), file=sys.stderr)
            result["runs"].append(run)
    result["runs"].sort(key=lambda run: run["rows"])
    result["command"] = _command(options, sorted({run["rows"] for run in result["runs"]}))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(result, options.out.with_suffix(".png"))
    print(options.out)


if __name__ == "__main__":
    main()
