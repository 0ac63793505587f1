"""Fine-tune, retrieve, or both: the four reports of docs/reports, made on one GPU at a time that minutes suffice for.

    python -m benchmarks.gpu.reports --kb FOLDER --reports docs/reports --out reports.json
    python -m benchmarks.gpu.reports --only sample --limit 4 --engine transformers ...       rehearsal on a CPU

FOLDER holds medinfo2019.xlsx, neike.xlsx and neike_paraphrases.jsonl, which belong to others and are not part of the
project. Each report is a run of its own, by the commands that anybody would type:

sample         the sample workbook; its paraphrases and unanswerable questions
neike-other    1,000 rows of neike; 200 patients' own questions about rows that were held back from training
neike-these    the same questions; trained on all 1,000 rows
medinfo2019    its questions as they stand, which training saw in another wording and retrieval has word for word

The index holds all rows in each. Runs are made beside one another: what is asked is which model is right, and the
latencies of the reports say how long an answer took on a GPU that others used too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.meaning import GPU_TRAINING, SAMPLE
from benchmarks.gpu.steps import Steps, device_name, groundtune, serving_settings, settings
from data.workspace import Run, open_workspace

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "lmdeploy",
    "chromadb",
    "sentence-transformers",
    "sacrebleu",
    "openai",
)
_ENGLISH = "You answer consumers' questions about medicines, briefly and only with what you know to be right."
_NEIKE_ROWS = 1000
_NUM_QUESTIONS = 200
_SEED = 17


@dataclass(frozen=True)
class Report:
    """One report: what its run is made of beyond what all have."""

    name: str
    workbook: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_NEIKE: Mapping[str, Any] = {
    "workbook.rows": _NEIKE_ROWS,
    "train.pack_tokens": 4096,
    "train.epochs": 4,
}
REPORTS = (
    Report("sample", ""),
    Report("neike-other", "neike.xlsx", {**_NEIKE, "split.test": 0.22}),
    Report("neike-these", "neike.xlsx", _NEIKE),
    Report(
        "medinfo2019",
        "medinfo2019.xlsx",
        {
            "workbook.map": {
                "info_1": "Focus (Drug)", "info_2": "Question Type", "Q": "Question", "A": "Answer",
            },
            "workbook.skip_empty": True,
            "prepare.system_prompt": _ENGLISH,
            "prepare.own_questions": _NUM_QUESTIONS,
            "train.styles": ["plain"],
            "train.pack_tokens": 4096,
            "train.epochs": 4,
        },
    ),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Make the reports that are asked for, side by side; returns 0 if no step failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder of the workbooks of others")
    parser.add_argument("--reports", type=Path, required=True, help="folder for NAME.html and NAME.json")
    parser.add_argument("--var", type=Path, help="workspace with models/; default: $GROUNDTUNE_VAR or var/")
    parser.add_argument("--only", default=",".join(report.name for report in REPORTS))
    parser.add_argument("--engine", choices=("lmdeploy", "transformers"), default="lmdeploy")
    parser.add_argument("--base", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--embedding", default="multilingual-e5-small-asked")
    parser.add_argument("--cache-share", type=float, default=0.15)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--limit", type=int, default=_NUM_QUESTIONS, help="answerable questions a report")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=4, help="runs made beside one another")
    parser.add_argument("--rows", type=int, help="only the first so many rows, for a rehearsal")
    parser.add_argument("--epochs", type=int, help="in place of each report's own, for a rehearsal")
    options = parser.parse_args(argv)
    if options.var:
        os.environ["GROUNDTUNE_VAR"] = str(options.var.resolve())
    steps = Steps("groundtune gpu reports", options.out, _PACKAGES)
    chosen = [report for report in REPORTS if report.name in options.only.split(",")]
    with ThreadPoolExecutor(options.at_once) as pool:
        for made in [pool.submit(make, report, options, steps) for report in chosen]:
            made.result()
    return steps.status


def make(report: Report, options: argparse.Namespace, steps: Steps) -> None:
    """Prepare, train, merge, index and compare one run; copies its report."""
    run = open_workspace().run(report.name)
    here = ("--name", report.name)
    chosen: dict[str, Any] = {
        "workbook.file": str((options.kb / report.workbook).resolve() if report.workbook else SAMPLE),
        "models.base": options.base,
        "models.embedding": options.embedding,
        **GPU_TRAINING,
        **serving_settings(options.engine, device_name(), options.cache_share),
        **report.settings,
    }
    if report.workbook == "neike.xlsx":
        chosen["workbook.questions"] = str((options.kb / "neike_paraphrases.jsonl").resolve())
    if options.rows:
        chosen["workbook.rows"] = options.rows
    if options.epochs:
        chosen["train.epochs"] = options.epochs

    def step(name: str, *arguments: str, timeout_s: float = 180) -> Any:
        return steps.run(f"{report.name}: {name}", lambda: groundtune(arguments, timeout_s))

    done = (
        step("prepare", "data", "prepare", *here, *settings(chosen), timeout_s=90)
        and step("train", "train", "run", *here, timeout_s=240)
        and step("merge", "train", "merge", *here)
        and step("index", "rag", "index", *here)
    )
    if done:  # without one of them there is nothing to compare
        steps.run(f"{report.name}: compare", lambda: compare(report, run, options))


def compare(report: Report, run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Run `groundtune compare` and copy its two files; returns its verdicts."""
    arguments = ["compare", "--name", report.name, "--limit", str(options.limit), "--seed", str(_SEED)]
    arguments += ["--concurrency", str(options.concurrency), "--max-tokens", str(options.max_tokens)]
    if report.workbook == "neike.xlsx":
        questions = run.folder / "questions.jsonl"
        write_questions(run, options.kb / "neike_paraphrases.jsonl", questions)
        arguments.insert(1, str(questions))
    found = groundtune(arguments, 400)
    options.reports.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for suffix in ("html", "json"):
        made = options.reports / f"{report.name}.{suffix}"
        shutil.copyfile(run.folder / "compare" / f"compare.{suffix}", made)
        sizes[made.name] = made.stat().st_size
    return {
        "verdicts": found.get("verdicts"),
        "summary": found.get("summary"),
        "num_answerable": found.get("num_answerable"),
        "num_unanswerable": found.get("num_unanswerable"),
        "bytes": sizes,
    }


def write_questions(run: Run, paraphrases: Path, out: Path) -> None:
    """Write 200 patients' questions about the rows that run neike-other holds back from training.

    Both runs of neike are asked the same: which rows are held back depends on the rows and the seed alone, and is
    worked out here anew for the run that holds back none.
    """
    from data.records import Row, read_records
    from data.settings import SplitSection
    from data.split import divide_rows

    rows = read_records(run.dataset / "rows.jsonl", Row)
    share = next(report.settings["split.test"] for report in REPORTS if report.name == "neike-other")
    division = divide_rows(rows, **SplitSection(test=share).model_dump())
    numbers = {row.source.rpartition("!")[2].lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"): row for row in rows}
    held_back = {row.row_id for row in division.rows(rows, "test")}
    lines = [
        json.loads(line) for line in paraphrases.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    asked = [
        {"question": line["question"], "row_id": numbers[str(line["row"])].row_id}
        for line in lines
        if str(line["row"]) in numbers and numbers[str(line["row"])].row_id in held_back
    ]
    chosen = random.Random(_SEED).sample(asked, min(_NUM_QUESTIONS, len(asked)))
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in chosen)
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
