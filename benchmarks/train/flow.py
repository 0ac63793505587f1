"""Runs `bench train`: the rows, each arm in turn, and the held-out loss of what they made.

What an arm measured is kept in FOLDER/arms/, under the digest of all that it was given, so that a benchmark of many
minutes can be run in pieces and joined; an arm that is asked for by name is always measured again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.processes import run_measured
from benchmarks.train import arms
from benchmarks.train.arms import ALL_LAYERS, BATCH, OURS, PLAIN, XTUNER, Place
from benchmarks.train.figures import held_out_losses, loss_differences, ratios, speeds
from benchmarks.train.rows import BenchRows, choose_rows
from data.artefacts import digest_of, write_json, write_text
from data.conversations import render
from data.errors import GroundTuneError
from training.config import TrainSection

_PACKAGES = ("torch", "transformers", "peft", "accelerate")
WHAT = {
    OURS: "`groundtune train run` as it comes: bfloat16, the upper 12 layers, packs that share the system prompt",
    ALL_LAYERS: "the same with `train.top_layers=null`: LoRA on every layer, as the other arms have it",
    PLAIN: f"transformers' Trainer and PEFT in float32, batches of {BATCH} padded to the longest, every layer, "
    "no gradient checkpointing",
    XTUNER: "`groundtune train run --backend xtuner`: XTuner 0.2 in bfloat16, DeepSpeed ZeRO-2 in one process, "
    "packs without padding, every layer, gradient checkpointing as its configurations have it",
}


@dataclass(frozen=True)
class TrainPlan:
    """What is measured.

    Attributes:
        place: Where, and with which models.
        workbook: Rows are drawn from it.
        num_rows: Rows to train on, a multiple of the plain script's batch.
        num_held_out: Rows of each held-out set.
        seeds: More seeds of the default configuration, whose losses say what chance does.
        only: Arms to measure now; the others' figures are those measured before. None: all.
    """

    place: Place
    workbook: Path
    num_rows: int = 48
    num_held_out: int = 32
    seeds: tuple[int, ...] = (18, 19)
    only: tuple[str, ...] | None = None

    @property
    def seed_arms(self) -> list[str]:
        """The names of the arms that repeat the default configuration."""
        return [f"{OURS}, seed {seed}" for seed in self.seeds]

    @property
    def names(self) -> list[str]:
        """Every arm, in order; the default first, whose steps the others are held to."""
        last = [XTUNER] if self.place.xtuner is not None else []
        return [OURS, ALL_LAYERS, *self.seed_arms, PLAIN, *last]


def run_bench(plan: TrainPlan) -> dict[str, Any] | None:
    """Measure; returns the result, or None while arms are left that `only` did not name.

    Raises:
        InputError: too few rows.
        GroundTuneError: an arm took another number of steps than the default.
    """
    place = plan.place
    source = place.workspace.run("source")
    prepare = ("data", "prepare", "--workbook", str(plan.workbook), "--name", source.name)
    arms.run_command(place, prepare, "preparing the rows")
    rows = choose_rows(source.dataset, plan.num_rows, plan.num_held_out, TrainSection().seed)
    given = digest_of(
        [
            str(place.base),
            [vars(item) for item in rows.trained],
            TrainSection().model_dump(mode="json"),
        ]
    )
    measured: dict[str, dict[str, Any]] = {}
    for name in plan.names:
        kept = place.folder / "arms" / f"{name}.json"
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        if (plan.only is None or name in plan.only) or known.get("given") != given:
            if plan.only is not None and name not in plan.only:
                continue
            known = {"given": given, "figures": _measure(plan, name, rows, measured)}
            write_json(kept, known)
        measured[name] = known["figures"]
        _require_steps(name, measured, plan.num_rows)
    if measured.keys() != set(plan.names):
        return None
    return _result(plan, rows, measured)


def _measure(
    plan: TrainPlan, name: str, rows: BenchRows, measured: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    place, trained = plan.place, rows.trained
    if name == PLAIN:
        return arms.run_plain(place, trained)
    if name == XTUNER:
        if OURS not in measured:
            raise GroundTuneError(
                f"arm {XTUNER!r} takes as many tokens a step as {OURS!r}: measure that first"
            )
        # XTuner puts a line break after each row, cuts the whole into equal packs, and drops the rest.
        epochs, num_steps = TrainSection().epochs, len(measured[OURS]["step_s"])
        num_tokens = measured[OURS]["num_tokens"] // epochs + len(trained)
        return arms.run_xtuner(place, trained, num_tokens // (num_steps // epochs))
    settings: Sequence[str] = ()
    if name == ALL_LAYERS:
        settings = ("train.top_layers=null",)
    elif name in plan.seed_arms:
        settings = (f"train.seed={plan.seeds[plan.seed_arms.index(name)]}",)
    return arms.run_groundtune(place, name, trained, settings)


def _require_steps(name: str, measured: dict[str, dict[str, Any]], num_rows: int) -> None:
    expected = num_rows // BATCH * TrainSection().epochs
    found = len(measured[name]["step_s"])
    if found != expected:
        raise GroundTuneError(
            f"arm {name!r} took {found} optimizer steps where {num_rows} rows in batches of {BATCH} are {expected}; "
            "ask for another number of --rows"
        )


def _result(plan: TrainPlan, rows: BenchRows, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = _held_out(plan, rows, measured)
    num_tokens = measured[OURS]["num_tokens"]
    compared = {name: arm for name, arm in measured.items() if name not in plan.seed_arms}
    figures = speeds(compared, num_tokens)
    losses = held_out_losses(found)
    for name, arm in figures.items():
        arm["what"] = WHAT[name]
        arm["held_out_loss"] = losses[name]
    default = TrainSection()
    return {
        "benchmark": "train",
        "command": "groundtune bench train" + (" --xtuner ENV" if plan.place.xtuner else ""),
        **describe_machine(_PACKAGES),
        "xtuner": _xtuner_versions(plan.place.xtuner),
        "rows": {
            "workbook": plan.workbook.name,
            "base": plan.place.base.name,
            "trained": len(rows.trained),
            "epochs": default.epochs,
            "useful_tokens": num_tokens,
            "held_out": {name: len(items) for name, items in rows.held_out.items()},
        },
        "hyperparameters": {
            "learning_rate": default.learning_rate,
            "schedule": "cosine to 0; a warm-up of 5% of so few steps is none",
            "lora_rank": default.lora_rank,
            "lora_alpha": default.lora_alpha,
            "target_modules": list(default.target_modules),
            "labels": "the answer and its end of turn, in every arm",
        },
        "arms": figures,
        "untrained_held_out_loss": losses["none"],
        "seeds": {name: losses[name] for name in plan.seed_arms},
        "times_faster": ratios(figures),
        "loss_differences": loss_differences(
            found, [name for name in compared if name != OURS], plan.seed_arms
        ),
    }


def _held_out(plan: TrainPlan, rows: BenchRows, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Have one process say every adapter's loss on the held-out rows."""
    place = plan.place
    files = []
    for name, items in rows.held_out.items():
        path = place.folder / f"{name}.jsonl"
        write_text(path, render(items, "conversation"))
        files.append(str(path))
    out = place.folder / "held_out.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.train.held_out",
        "--base",
        str(place.base),
        "--out",
        str(out),
    ]
    command += [
        "--rows",
        *files,
        "--adapter",
        *(f"{name}={arm['adapter']}" for name, arm in measured.items()),
    ]
    run_measured(command, "held-out losses")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _xtuner_versions(environment: Path | None) -> dict[str, str] | None:
    if environment is None:
        return None
    names = ("xtuner", "torch", "transformers", "peft", "deepspeed", "mmengine")
    code = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {names}}}))"
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
