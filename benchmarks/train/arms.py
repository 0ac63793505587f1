"""The arms of `bench train`: each trains the same rows in a process of its own and says how fast that was.

The default trainer and XTuner are run as their users run them, by `groundtune train run`; what is read is what they
leave on disk. Times of steps leave out loading the model and saving; `wall_s` and `peak_rss_bytes` are the kernel's
own counts of the whole command.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import run_measured
from benchmarks.train.rows import write_dataset
from data.conversations import Conversation
from data.errors import GroundTuneError
from data.workspace import Workspace
from training.config import TrainSection

OURS, PLAIN, XTUNER = "groundtune", "plain", "xtuner"
ALL_LAYERS = "groundtune, all layers"
# Of the plain script; the rows are as many as fill whole batches. Four of them are about one pack of the default.
BATCH = 4
_XTUNER_STEP = re.compile(r"^(\d\d/\d\d \d\d:\d\d:\d\d) .*Iter\(train\) \[\s*(\d+)/(\d+)\].*?loss: ([0-9.]+)")
_CLI = (sys.executable, "-m", "serving.cli")


@dataclass(frozen=True)
class Place:
    """Where the arms work: a workspace of their own under `folder`, the base model, XTuner's environment."""

    folder: Path
    base: Path
    xtuner: Path | None

    @property
    def workspace(self) -> Workspace:
        """The arms' own."""
        return Workspace(self.folder / "var")


def run_command(place: Place, arguments: Sequence[str], title: str) -> dict[str, float]:
    """Run a command of GroundTune in the arms' workspace; returns its wall time and peak memory."""
    return run_measured((*_CLI, *arguments), title, {"GROUNDTUNE_VAR": str(place.workspace.root)})


def run_groundtune(
    place: Place, name: str, rows: Sequence[Conversation], settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Train by the PEFT backend with its defaults but for `settings`."""
    run = place.workspace.run(_folder_name(name))
    shutil.rmtree(run.folder, ignore_errors=True)
    write_dataset(run, rows)
    options = [option for item in settings for option in ("--set", item)]
    arguments = ("train", "run", "--name", run.name, "--base", str(place.base), *options)
    measured = run_command(place, arguments, name)
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    return {
        "settings": list(settings),
        "adapter": str(run.adapter),
        "num_tokens": sum(item["num_tokens"] for item in metrics),
        "step_s": [round(item["num_tokens"] / item["tokens_per_s"], 3) for item in metrics],
        "losses": [round(item["loss"], 4) for item in metrics],
        **measured,
    }


def run_plain(place: Place, rows: Sequence[Conversation]) -> dict[str, Any]:
    """Train by the tutorials' script with the default's hyperparameters, on all layers as tutorials do."""
    default = TrainSection()
    run = place.workspace.run(PLAIN)
    shutil.rmtree(run.folder, ignore_errors=True)
    write_dataset(run, rows)
    names = ("lora_rank", "lora_alpha", "lora_dropout", "learning_rate", "epochs", "max_tokens", "seed")
    settings = {name: getattr(default, name) for name in names}
    settings |= {"target_modules": list(default.target_modules), "batch": BATCH}
    command = [
        sys.executable,
        "-m",
        "benchmarks.train.plain",
        "--base",
        str(place.base),
        "--out",
        str(run.folder),
    ]
    command += ["--rows", str(run.dataset / "train.jsonl"), "--settings", json.dumps(settings)]
    measured = run_measured(command, PLAIN)
    steps = json.loads((run.folder / "steps.json").read_text(encoding="utf-8"))
    return {
        "settings": settings,
        "adapter": str(run.adapter),
        "step_s": [round(item["seconds"], 3) for item in steps],
        "losses": [round(item["loss"], 4) for item in steps],
        **measured,
    }


def run_xtuner(place: Place, rows: Sequence[Conversation], pack_tokens: int) -> dict[str, Any]:
    """Train by XTuner with the default's hyperparameters; `pack_tokens` a step, which XTuner fills whole."""
    default = TrainSection()
    run = place.workspace.run(XTUNER)
    shutil.rmtree(run.folder, ignore_errors=True)
    write_dataset(run, rows)
    settings = {
        "environment": str(place.xtuner), "device": "cpu", "styles": '["plain"]', "prompt_template": "qwen_chat",
        "max_length": pack_tokens, "map_processes": 1, "accumulative_counts": 1, "epochs": default.epochs,
        "warmup_ratio": 0,
        "learning_rate": default.learning_rate, "lora_rank": default.lora_rank, "lora_alpha": default.lora_alpha,
        "lora_dropout": default.lora_dropout, "evaluation_steps": "null", "log_steps": 1, "seed": default.seed,
    }  # fmt: skip
    options = [option for key, value in settings.items() for option in ("--set", f"xtuner.{key}={value}")]
    arguments = (
        "train",
        "run",
        "--backend",
        "xtuner",
        "--name",
        run.name,
        "--base",
        str(place.base),
        *options,
    )
    measured = run_command(place, arguments, XTUNER)
    log = (run.logs / "xtuner.log").read_text(encoding="utf-8", errors="replace")
    settings["environment"] = "groundtune train env xtuner"
    return {"settings": settings, "adapter": str(run.adapter), **xtuner_steps(log), **measured}


def xtuner_steps(log: str) -> dict[str, Any]:
    """Return what XTuner's log says of its steps: the mean seconds of one, each step's loss, and their number.

    A line is written as a step ends, with its second: of N steps the first N - 1 intervals are known, to a second in
    all. The loss is mmengine's mean over the last ten steps.

    Raises:
        GroundTuneError: the log has fewer than two steps.
    """
    found = [match for line in log.splitlines() if (match := _XTUNER_STEP.match(line))]
    if len(found) < 2:
        raise GroundTuneError(f"XTuner's log has {len(found)} steps; at least two are needed for their time")
    first, last = (
        # The year is not in the log; a leap year has every day.
        datetime.datetime.strptime(f"2000/{match[1]}", "%Y/%m/%d %H:%M:%S")
        for match in (found[0], found[-1])
    )
    mean_s = (last - first).total_seconds() / (len(found) - 1)
    return {"step_s": [round(mean_s, 3)] * len(found), "losses": [float(match[4]) for match in found]}


def _folder_name(arm: str) -> str:
    return re.sub(r"\W+", "-", arm)
