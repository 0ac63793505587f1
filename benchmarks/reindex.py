"""Times `groundtune rag index` after one answer of 10,000 was edited, against making the index from nothing.

    python -m benchmarks.reindex [--rows 10000] [--edits 5] [--part rebuild|edits|commands]

Rows are made of the sample workbook's (benchmarks.retrieval.corpus says how) and embedded for real, all of them, by the
default model and settings. `build_s` is what the step itself takes (rag.index.build_index), in a process that has the
model loaded; `command_s` is the whole command, most of which is Python starting. A part may be run alone, after the
ones before it; the last one writes benchmarks/results/reindex.json.
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
from benchmarks.retrieval.corpus import make_rows
from data.artefacts import write_json
from data.records import Row, revision_of, write_records
from data.row_source import RowSource, read_rows
from rag.row_texts import row_text

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reindex.json"
PARTS = ("rebuild", "edits", "commands")
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
    parser.add_argument("--model", type=Path, default=ROOT / "var" / "models" / "multilingual-e5-small-asked")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "reindex")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    state_file = options.folder / "state.json"
    parts = options.part or PARTS
    if "rebuild" in parts:
        shutil.rmtree(options.folder, ignore_errors=True)
        options.folder.mkdir(parents=True)
        write_json(state_file, {"num_rows": options.rows, "num_edits": 0})
    state = json.loads(state_file.read_text(encoding="utf-8"))
    measure = {"rebuild": _rebuild, "edits": _edits, "commands": _commands}
    for part in parts:
        state[part] = measure[part](state, options)
        write_json(state_file, state)
    if not set(PARTS) <= set(state):
        return 0
    edit_s = statistics.median(state["edits"])
    result: dict[str, Any] = {
        "what": "re-indexing after one edited answer, against indexing everything",
        "command": f"python -m benchmarks.reindex --rows {state['num_rows']} --edits {options.edits}",
        **describe_machine(("torch", "sentence-transformers", "chromadb")),
        "num_rows": state["num_rows"],
        "mean_characters": state["mean_characters"],
        "rebuild": {"build_s": state["rebuild"]},
        "one_edit": {
            "build_s": edit_s,
            "command_s": statistics.median(state["commands"]),
            "builds_s": state["edits"],
            "commands_s": state["commands"],
        },
        "times_faster": round(state["rebuild"] / edit_s),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))
    shutil.rmtree(options.folder)
    return 0


def _rebuild(state: dict[str, Any], options: argparse.Namespace) -> float:
    rows = _rows(state["num_rows"])
    state["mean_characters"] = round(statistics.mean(len(row_text(row)) for row in rows))
    return _timed_builds([rows], options)[0]


def _edits(state: dict[str, Any], options: argparse.Namespace) -> list[float]:
    # The first build of a process makes numpy's and Chroma's threads, and is not counted.
    before = state["num_edits"]
    state["num_edits"] += options.edits + 1
    rows = [_edited_rows(state["num_rows"], before + number) for number in range(1, options.edits + 2)]
    return _timed_builds(rows, options)[1:]


def _commands(state: dict[str, Any], options: argparse.Namespace) -> list[float]:
    command = [
        *(sys.executable, "-m", "serving.cli", "rag", "index", "--name", "bench"),
        *("--set", f"models.embedding={options.model.resolve()}"),
    ]
    environment = {**os.environ, "GROUNDTUNE_VAR": str(options.folder.resolve())}
    taken = []
    for _ in range(options.edits):
        state["num_edits"] += 1
        write_records(_dataset(options) / "rows.jsonl", _edited_rows(state["num_rows"], state["num_edits"]))
        started = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
        taken.append(round(time.perf_counter() - started, 2))
    return taken


def _edited_rows(count: int, num_edits: int) -> list[Row]:
    rows = _rows(count)
    for number in range(num_edits):
        rows = edited(rows, 17 * number + 1, f"第{number}次修改后的回答，请遵医嘱。")
    return rows


def _dataset(options: argparse.Namespace) -> Path:
    folder: Path = options.folder
    return folder / "runs" / "bench" / "dataset"


def _timed_builds(versions: Sequence[Sequence[Row]], options: argparse.Namespace) -> list[float]:
    """Time the builds of these rows in this process, the model loaded once before."""
    import torch

    from rag.config import IndexSection
    from rag.embedding import load_embeddings
    from rag.index import build_index

    embeddings = load_embeddings(options.model, num_threads=torch.get_num_threads())
    embeddings.embed(["first"], "passage")
    taken = []
    for rows in versions:
        write_records(_dataset(options) / "rows.jsonl", rows)
        started = time.perf_counter()
        build_index(
            _dataset(options), options.model, options.folder / "index" / "bench", IndexSection(), embeddings
        )
        taken.append(round(time.perf_counter() - started, 3))
    embeddings.close()
    return taken


def _rows(count: int) -> list[Row]:
    """Return rows of which no two have the same question or answer."""
    made, parents = make_rows(read_rows(RowSource(SAMPLE)), count)
    rows = []
    for number, (row, (begin, end)) in enumerate(zip(made, parents, strict=True)):
        other = made[(7 * number + begin + end) % count].answer
        answer = f"{row.answer[: len(row.answer) * 2 // 3]}{other[len(other) // 2 :]}（{number}）"
        rows.append(dataclasses.replace(row, answer=answer, revision=revision_of(answer)))
    return rows


if __name__ == "__main__":
    sys.exit(main())
