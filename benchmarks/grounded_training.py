"""What tuning does to retrieval: a model tuned on bare questions, and one tuned on prompts with rows in them too.

    python -m benchmarks.grounded_training                   the sample, 48 of its paraphrases; 40 minutes on two cores
    python -m benchmarks.grounded_training --title desk --workbook FILE --set workbook.questions=FILE.jsonl --out FILE

Two runs that differ in `train.styles` only; both are compared with the untuned model given the same rows. Every step
is a `groundtune` command, which does nothing where its result is there: what was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import groundtune
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT
from data.manifest import read_manifest
from data.workspace import Run, open_workspace

RESULT = ROOT / "benchmarks" / "results" / "grounded-training.json"
RUNS = {"bare": ("plain",), "both": ("plain", "grounded")}
_ARMS = ("base-rag", "tuned-rag", "tuned")
_PACKAGES = ("torch", "transformers", "peft", "chromadb", "sentence-transformers")
_MEASURES = ("rouge_l", "facts_kept", "contradicts", "citation_recall", "refusal_right")


def main(argv: Sequence[str] | None = None) -> int:
    """Make both runs and write the result; returns 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--title", default="the sample", help="of the workbook, in tables and the runs' names"
    )
    parser.add_argument("--workbook", type=Path, help="default: the sample")
    parser.add_argument(
        "--set", action="append", default=[], help="a setting of `data prepare`, as in its --set"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, default=48, help="answerable questions; 0: all")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    result = {
        "benchmark": "grounded training",
        "command": " ".join(["python -m benchmarks.grounded_training", *given]),
        **describe_machine(_PACKAGES),
        "workbook": options.title,
        "epochs": options.epochs,
        "runs": {name: _made(name, options) for name in RUNS},
    }
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _made(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train, merge, index and compare one run; returns what it says."""
    # Runs of the sample's own names, as they always were.
    here = ("--name", name if options.workbook is None else f"{options.title}-{name}")
    workbook = ("--workbook", str(options.workbook)) if options.workbook else ()
    styles = RUNS[name]
    training = (
        f"train.styles=[{', '.join(styles)}]", "train.max_train_tokens=null", f"train.epochs={options.epochs}",
    )  # fmt: skip
    steps: tuple[tuple[str, ...], ...] = (
        (
            *("data", "prepare", *here, *workbook, "--set", "prepare.styles=[seed, plain, grounded]"),
            *(part for setting in options.set for part in ("--set", setting)),
        ),
        ("train", "run", *here, *(part for setting in training for part in ("--set", setting))),
        ("train", "merge", *here),
        ("rag", "index", *here),
        (
            *("compare", *here, "--arms", ",".join(_ARMS), "--limit", str(options.limit)),
            *("--unanswerable", "1", "--concurrency", "12"),
        ),
    )
    for step in steps:
        print(f"== {name}: groundtune {' '.join(step)}", file=sys.stderr, flush=True)
        groundtune(step, 7200)
    run = open_workspace().run(here[1])
    return {"styles": styles, **_taught(run), **_compared(run)}


def _taught(run: Run) -> dict[str, Any]:
    manifest = read_manifest(run.adapter)
    assert manifest is not None
    lines = (run.dataset / "train.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line)["style"] for line in lines]
    return {
        "num_conversations": {style: found.count(style) for style in ("plain", "grounded")},
        "training": {
            key: value for key, value in manifest.facts.items() if isinstance(value, int | float | str)
        },
    }


def _compared(run: Run) -> dict[str, Any]:
    report = json.loads((run.folder / "compare" / "compare.json").read_text(encoding="utf-8"))
    wanted = [
        pair
        for pair in report["pairs"]
        if pair["category"] is None
        and pair["measure"] == "rouge_l"
        and "tuned-rag" in (pair["first"], pair["second"])
    ]
    return {
        "compared": report["date"],
        "num_answerable": report["num_answerable"],
        "means": {
            arm: {measure: figures[measure] for measure in _MEASURES}
            for arm, figures in report["summary"].items()
        },
        "rouge_l_pairs": [
            {key: pair[key] for key in ("first", "second", "difference", "confidence", "better")}
            for pair in wanted
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
