"""One run of `bench retrieval`: a process for each step, and a result that is written after each.

What a stopped run has measured is in its result and is not measured again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.retrieval.chart import draw_searches
from benchmarks.retrieval.corpus import NUM_QUESTIONS, QUESTION_CHARACTERS
from data.artefacts import write_json
from data.errors import GroundTuneError, InputError
from data.records import Row
from data.row_source import RowSource, read_rows

_PACKAGES = ("chromadb", "langchain-chroma", "sentence-transformers", "torch", "numpy")
_MOST_PARENTS = 1000


@dataclass(frozen=True)
class SearchPlan:
    """What is measured; sizes in rows.

    Attributes:
        workbook, mapping: The rows that others are made of, and its columns (FIELD to HEADER).
        embedding: The embedding model's folder.
        sizes: How many rows, one run each.
        most_embedded: Up to so many rows are embedded by the model; above, vectors are mixed.
        most_indexed: Up to so many rows a whole index and the tutorial's are built; above, the two stages alone.
        threads: CPU threads that embed a question.
        at_most_s: A build of stages stops after so long and goes on in the next run.
    """

    workbook: Path
    mapping: Mapping[str, str]
    embedding: Path
    sizes: Sequence[int]
    most_embedded: int
    most_indexed: int
    threads: int
    at_most_s: float
    folder: Path
    out: Path


def parent_rows(plan: SearchPlan) -> list[Row]:
    """Return the workbook's rows that others are made of."""
    rows = read_rows(RowSource(plan.workbook, mapping=dict(plan.mapping)))
    return [row for row in rows if row.question.strip()][:_MOST_PARENTS]


def run_searches(plan: SearchPlan, command: str) -> dict[str, Any]:
    """Measure what is not in `plan.out` yet; returns the whole result.

    Raises:
        InputError: `plan.out` is of another workbook, embedding or number of threads.
        GroundTuneError: a step failed.
    """
    result: dict[str, Any] = {
        "what": "searches of an index, and of LangChain with Chroma as its tutorial has it",
        "machine": describe_machine(_PACKAGES),
        "workbook": plan.workbook.name,
        "embedding": plan.embedding.name,
        "threads": plan.threads,
        "questions": {"number": NUM_QUESTIONS, "characters": QUESTION_CHARACTERS},
        "runs": [],
        "command": command,
    }
    if plan.out.is_file():
        before = json.loads(plan.out.read_text(encoding="utf-8"))
        same = ("workbook", "embedding", "threads", "questions")
        if [before.get(name) for name in same] != [result[name] for name in same]:
            raise InputError(
                f"{plan.out}: of another workbook, embedding, questions or threads; remove it or give another --out"
            )
        result["runs"] = before["runs"]
    for size in plan.sizes:
        systems = ("groundtune", "tutorial") if size <= plan.most_indexed else ("stages",)
        for system in systems:
            if any((run["system"], run["rows"]) == (system, size) for run in result["runs"]):
                continue
            print(f"{system}, {size} rows", file=sys.stderr)
            vectors = "embedded" if size <= plan.most_embedded else "mixed"
            run = {"system": system, "rows": size, "vectors": vectors}
            run |= _step(plan, "build", system, size)
            run |= _step(plan, "search", system, size)
            result["runs"] = sorted([*result["runs"], run], key=lambda run: (run["rows"], run["system"]))
            write_json(plan.out, result)
            draw_searches(result, plan.out.with_suffix(".png"))
    return result


def _step(plan: SearchPlan, step: str, system: str, size: int) -> dict[str, Any]:
    """Run a step in a process of its own, whose memory is measured; a build that was made before is taken."""
    built = plan.folder / f"{system}-{size}.json"
    if step == "build" and built.is_file():
        found: dict[str, Any] = json.loads(built.read_text(encoding="utf-8"))
        return found
    asked = json.dumps({**asdict(plan), "step": step, "system": system, "size": size}, default=str)
    command = [sys.executable, "-m", "benchmarks.retrieval.step", asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise GroundTuneError(f"{step} of {system} with {size} rows failed (exit {done.returncode})")
    result: dict[str, Any] | None = json.loads(done.stdout.strip().splitlines()[-1])
    if result is None:
        raise GroundTuneError(
            f"{system}, {size} rows: not done in {plan.at_most_s:.0f} s; run it again to go on"
        )
    if step == "build":
        write_json(built, result)
    return result
