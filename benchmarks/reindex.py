"""Times `groundtune rag index` after one answer of 10,000 was edited, against making the index from nothing.

    python -m benchmarks.reindex [--rows 10000] [--edits 5]

Rows are made of the sample workbook's (benchmarks.retrieval says how) and embedded for real, by the default model
and settings. `build_s` is inside a process that has the model loaded; `command_s` is the whole command, most of which
is Python importing torch and loading the model. Writes benchmarks/results/reindex.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.retrieval import make_rows
from data.records import Row, revision_of, write_records
from data.row_source import RowSource, read_rows

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reindex.json"
SAMPLE = ROOT / "data" / "知识库内容.xlsx"


def edited(rows: Sequence[Row], place: int, text: str) -> list[Row]:
    """Return the rows, one of them with another answer."""
    changed = dataclasses.replace(rows[place], answer=text, revision=revision_of(text))
    return [*rows[:place], changed, *rows[place + 1 :]]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "reindex")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    folder: Path = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    rows = _rows(options.rows)
    rows_file = folder / "runs" / "bench" / "dataset" / "rows.jsonl"
    command = [
        *(sys.executable, "-m", "serving.cli", "rag", "index", "--name", "bench"),
        *("--set", f"models.embedding={options.model.resolve()}"),
    ]

    environment = {**os.environ, "GROUNDTUNE_VAR": str(folder.resolve())}

    def by_command() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
        return round(time.perf_counter() - started, 2)

    inside = _inside(rows, rows_file.parent, options.model, folder / "index" / "bench", options.edits)
    edit_s = statistics.median(inside["edits_s"])
    rows = inside["rows"]
    edit_command_s = []
    for number in range(options.edits):
        rows = edited(rows, 17 * number, f"第{number}次修改后的回答，请遵医嘱。")
        write_records(rows_file, rows)
        edit_command_s.append(by_command())
    result: dict[str, Any] = {
        "what": "re-indexing after one edited answer, against indexing everything",
        "command": " ".join(["python -m benchmarks.reindex", *sys.argv[1:]]),
        **describe_machine(("torch", "sentence-transformers", "chromadb")),
        "num_rows": options.rows,
        "rebuild": {"build_s": inside["rebuild_s"]},
        "one_edit": {
            "build_s": edit_s,
            "command_s": statistics.median(edit_command_s),
            "builds_s": inside["edits_s"],
            "commands_s": edit_command_s,
        },
        "times_faster": round(inside["rebuild_s"] / edit_s),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    shutil.rmtree(folder)
    return 0


def _rows(count: int) -> list[Row]:
    """Return rows of which no two have the same question or answer."""
    made, parents = make_rows(read_rows(RowSource(SAMPLE)), count)
    rows = []
    for number, (row, (begin, end)) in enumerate(zip(made, parents, strict=True)):
        other = made[(7 * number + begin + end) % count].answer
        answer = f"{row.answer[: len(row.answer) * 2 // 3]}{other[len(other) // 2 :]}（{number}）"
        rows.append(dataclasses.replace(row, answer=answer, revision=revision_of(answer)))
    return rows


def _inside(rows: list[Row], dataset: Path, model: Path, index: Path, num_edits: int) -> dict[str, Any]:
    """Time the builds in this process, the model loaded once before."""
    import torch

    from rag.config import IndexSection
    from rag.embedding import load_embeddings
    from rag.index import build_index

    embeddings = load_embeddings(model, num_threads=torch.get_num_threads())
    embeddings.embed(["first"], "passage")

    def timed() -> float:
        write_records(dataset / "rows.jsonl", rows)
        started = time.perf_counter()
        build_index(dataset, model, index, IndexSection(), embeddings)
        return round(time.perf_counter() - started, 3)

    rebuild_s = timed()
    edits_s = []
    for number in range(num_edits):
        rows = edited(rows, 17 * number + 1, f"第{number}次修改，请遵医嘱。")
        edits_s.append(timed())
    embeddings.close()
    return {"rebuild_s": rebuild_s, "edits_s": edits_s, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
