"""`groundtune train sweep`: a search for a better training configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data.config import section, settle_config
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.workspace import open_workspace


def sweep(
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget of all trials together.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Vary what the section `sweep` lists, judge by held-out answers, and write the winner's YAML."""
    from training.sweep import run_sweep
    from training.sweep_config import SweepSection

    workspace = open_workspace()
    run = workspace.run(name)
    raw = settle_config(run, config, settings or ())
    chosen = section(raw, "sweep", SweepSection)
    if minutes is not None:
        chosen = section({"sweep": {**raw.get("sweep", {}), "minutes": minutes}}, "sweep", SweepSection)
    base = resolve_model(workspace, section(raw, "models", ModelsConfig).base)
    result = run_sweep(run, base, raw, chosen, lambda line: print(line, file=sys.stderr))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    _print_table(result, list(chosen.search))
    print(f"{result['verdict']}\n{run.folder / 'sweep' / 'best.yaml'}")


def _print_table(result: dict[str, Any], keys: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("trial", *keys, "state", "ROUGE-L", "seconds")
    for row in result["trials"]:
        score = "" if row["rouge_l"] is None else f"{row['rouge_l']:.2f}"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
        label = f"{row['trial']} (default)" if row["is_default"] else str(row["trial"])
        values = (f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in keys)
        table.add_row(label, *values, row["state"], score, seconds)
    Console().print(table)
