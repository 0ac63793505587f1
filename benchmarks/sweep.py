"""`groundtune train sweep` on the sample workbook with the default model: what it finds in so many minutes.

    python -m benchmarks.sweep [--minutes 10]

Runs `data prepare` and `train sweep` as their users do, in a workspace under var/bench/sweep, and adds to the
sweep's own result what it ran on. The default configuration is one of the trials, in the same budget. Writes
benchmarks/results/sweep.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT, run_measured
from data.artefacts import write_json
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.workspace import Workspace, open_workspace

RESULT = ROOT / "benchmarks" / "results" / "sweep.json"
_WORKBOOK = ROOT / "data" / "知识库内容.xlsx"
_CLI = (sys.executable, "-m", "serving.cli")


def main() -> None:
    """Run the sweep and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    workspace = open_workspace()
    base = resolve_model(workspace, ModelsConfig().base)
    place = Workspace(workspace.root / "bench" / "sweep")
    run = place.run("sweep")
    shutil.rmtree(run.folder, ignore_errors=True)
    environment = {**os.environ, "GROUNDTUNE_VAR": str(place.root)}
    named = ("--name", run.name, "--set", f"models.base={base}")
    prepare = ("data", "prepare", "--workbook", str(_WORKBOOK), *named)
    run_measured((*_CLI, *prepare), "preparing the rows", environment)
    sweep = ("train", "sweep", "--minutes", f"{options.minutes:g}", *named)
    measured = run_measured((*_CLI, *sweep), "sweep", environment)
    found = json.loads((run.folder / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    result = {
        "benchmark": "sweep",
        "command": f"python -m benchmarks.sweep --minutes {options.minutes:g}",
        **describe_machine(("torch", "transformers", "peft", "optuna")),
        "workbook": _WORKBOOK.name,
        "base": base.name,
        **measured,
        **found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    shutil.copyfile(run.folder / "sweep" / "history.png", options.out.with_suffix(".png"))
    print(found["verdict"])


if __name__ == "__main__":
    main()
