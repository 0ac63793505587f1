"""Embedding and building an index on the GPU: rows a second.

    python -m benchmarks.gpu.index --kb FOLDER --out index.json
    python -m benchmarks.gpu.index --rows 40 --batches 8,16 --device cpu ...      rehearsal on a CPU

Rows are neike's (FOLDER/neike.xlsx), each repeated with a number in front until there are enough, so that no text is
another's and the vector cache finds none. Whole rows (`rag.row_texts`) are embedded in bf16, with float32 on the
CPU's cores beside it for a sample; then `groundtune rag index` builds an index of all with the default views.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import Steps, device_name, groundtune
from benchmarks.machine import describe_machine

_PACKAGES = ("torch", "transformers", "sentence-transformers", "chromadb", "bm25s", "numpy")
_CPU_ROWS = 400


def main(argv: Sequence[str] | None = None) -> int:
    """Embed at each batch size, then build; returns 0 if no step failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder with neike.xlsx")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--var", type=Path, help="workspace with models/; default: $GROUNDTUNE_VAR or var/")
    parser.add_argument("--embedding", default="multilingual-e5-small-asked")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--batches", default="32,128,512")
    parser.add_argument("--device", default=None)
    options = parser.parse_args(argv)
    if options.var:
        os.environ["GROUNDTUNE_VAR"] = str(options.var.resolve())
    steps = Steps("groundtune gpu index", options.out, _PACKAGES)
    device = options.device or device_name()
    rows = many_rows(options.kb / "neike.xlsx", options.rows)
    steps.report["rows"] = {
        "count": len(rows),
        "mean_characters": round(statistics.fmean(len(row.question) + len(row.answer) for row in rows), 1),
    }
    for batch in (int(text) for text in options.batches.split(",")):
        steps.run(f"embed, {device}, batch {batch}", lambda size=batch: embed(options, rows, device, size))  # type: ignore[misc]
    if device != "cpu":
        cores = int(describe_machine(())["hardware"]["num_cores"])
        steps.run("embed, cpu", lambda: embed(options, rows[:_CPU_ROWS], "cpu", 16, cores))
    steps.run("build", lambda: build(options, rows, device))
    return steps.status


def many_rows(workbook: Path, count: int) -> list[Any]:
    """Return `count` different rows."""
    from data.records import row_id_of
    from data.row_source import RowSource, read_rows

    rows = read_rows(RowSource(workbook))
    made = []
    for number in range(count):
        row, turn = rows[number % len(rows)], number // len(rows)
        if turn:
            question = f"{turn}. {row.question}"
            row = dataclasses.replace(
                row, row_id=row_id_of(row.info_1, row.info_2, question), question=question,
                answer=f"{turn}. {row.answer}",
            )  # fmt: skip
        made.append(row)
    return made


def embed(
    options: argparse.Namespace, rows: Sequence[Any], device: str, batch: int, threads: int = 1
) -> dict[str, Any]:
    """Return rows a second of one batch size, and milliseconds of a lone question."""
    from data.models.folder import resolve_model
    from data.workspace import open_workspace
    from rag.embedding import load_embeddings
    from rag.row_texts import row_text

    folder = resolve_model(open_workspace(), options.embedding)
    model = load_embeddings(folder, device=device, batch_size=batch, num_threads=threads)
    try:
        texts = [row_text(row) for row in rows]
        model.embed(texts[: 4 * batch], "passage")
        started = time.perf_counter()
        model.embed(texts, "passage")
        spent = time.perf_counter() - started
        lone = []
        for row in rows[:40]:
            began = time.perf_counter()
            model.embed([row.question], "query")
            lone.append((time.perf_counter() - began) * 1000)
    finally:
        model.close()
    return {
        "device": device,
        "batch": batch,
        "rows": len(texts),
        "seconds": round(spent, 3),
        "rows_per_s": round(len(texts) / spent, 1),
        "question_ms_p50": round(statistics.median(lone[5:]), 2),
    }


def build(options: argparse.Namespace, rows: Sequence[Any], device: str) -> dict[str, Any]:
    """Return the seconds of `groundtune rag index` over all rows, Python's start included."""
    from data.config import save_config
    from data.records import write_records
    from data.workspace import open_workspace

    run = open_workspace().run("gpu-index")
    for folder in (run.folder, run.index):
        shutil.rmtree(folder, ignore_errors=True)
    run.dataset.mkdir(parents=True)
    write_records(run.dataset / "rows.jsonl", list(rows))
    index: dict[str, Any] = {"device": device, "batch_size": 128}
    if device != "cpu":
        index["precision"] = "bfloat16"
    save_config(run, {"models": {"embedding": options.embedding}, "index": index})
    started = time.perf_counter()
    facts = groundtune(("rag", "index", "--name", "gpu-index"), 200)
    spent = time.perf_counter() - started
    return {"rows": len(rows), "seconds": round(spent, 2), "rows_per_s": round(len(rows) / spent, 1), **facts}


if __name__ == "__main__":
    sys.exit(main())
