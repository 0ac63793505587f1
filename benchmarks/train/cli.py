"""`groundtune bench train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption

_WORKBOOK = Path("data/知识库内容.xlsx")


def train(
    xtuner: Annotated[
        Path | None,
        typer.Option(
            help="XTuner's environment; default: var/envs/xtuner, which `train env xtuner` makes; left out where "
            "there is none."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model: a name, hf:..., or a folder; default: models.base.")
    ] = None,
    workbook: Annotated[
        Path, typer.Option(help="Rows are drawn from it; it needs a sheet of paraphrases.")
    ] = _WORKBOOK,
    rows: Annotated[int, typer.Option(min=8, help="Rows to train on, twice each; a multiple of 4.")] = 48,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this arm only, and join it with what was measured before; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The result's file; its picture is beside it. Default: var/bench/train.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the same rows by the default trainer, by transformers' Trainer in float32, and by XTuner."""
    from benchmarks.train.arms import BATCH, Place
    from benchmarks.train.flow import TrainPlan, run_bench
    from data.artefacts import write_json
    from data.errors import UsageError
    from data.models.config import ModelsConfig
    from data.models.folder import resolve_model
    from data.workspace import open_workspace

    workspace = open_workspace()
    environment = xtuner or workspace.root / "envs" / "xtuner"
    there = (environment / "bin" / "xtuner").is_file()
    if xtuner is not None and not there:
        raise UsageError(
            f"--xtuner {str(xtuner)!r}: no XTuner there; make it with `groundtune train env xtuner`"
        )
    if rows % BATCH:
        raise UsageError(f"--rows {rows}: must be a multiple of {BATCH}, the batch of the plain script")
    if not workbook.is_file():
        raise UsageError(f"--workbook {str(workbook)!r}: no such file")
    place = Place(
        workspace.root / "bench" / "train",
        resolve_model(workspace, base or ModelsConfig().base),
        environment.absolute() if there else None,
    )
    plan = TrainPlan(place, workbook.absolute(), rows, only=tuple(only) if only else None)
    unknown = [name for name in plan.only or () if name not in plan.names]
    if unknown:
        raise UsageError(f"--only {unknown[0]!r}: no such arm; arms: {', '.join(map(repr, plan.names))}")
    result = run_bench(plan)
    if result is None:
        print("measured; the result is written when every arm is")
        return
    path = out or workspace.root / "bench" / "train.json"
    write_json(path, result)
    from benchmarks.train.chart import draw_training

    draw_training(result, path.with_suffix(".png"))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    sets = [f"loss, {name}" for name in result["untrained_held_out_loss"]]
    table = Table("", "tokens/s", "times", "steps", "training loss", *sets, "peak GB")
    for name, arm in result["arms"].items():
        table.add_row(
            name,
            f"{arm['useful_tokens_per_s']:.1f}",
            f"{result['times_faster'].get(name, 1):.2f}",
            str(arm["num_steps"]),
            f"{arm['final_training_loss']:.3f}",
            *(f"{loss:.3f}" for loss in arm["held_out_loss"].values()),
            f"{arm['peak_rss_bytes'] / 1e9:.1f}",
        )
    Console().print(table)
    print(f"result: {path}")
