"""`groundtune train env` and `groundtune train convert`; and what `train run --backend xtuner` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data.config import RawConfig, save_config, section
from data.errors import UsageError
from data.manifest import Manifest
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.workspace import Run, Workspace, open_workspace

NameOption = Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def env(
    name: Annotated[str, typer.Argument(metavar="xtuner", help="The environment to make.")],
    path: Annotated[
        Path | None, typer.Option("--path", help="Where to make it; default: var/envs/xtuner.")
    ] = None,
    cuda: Annotated[
        bool, typer.Option("--cuda", help="torch with its CUDA libraries, and bitsandbytes for 4 bits.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the environment that the XTuner backend runs in, from requirements-xtuner.lock."""
    from training.environment import make_xtuner_environment

    if name != "xtuner":
        raise UsageError(f"{name!r}: no such environment; known: xtuner")
    workspace = open_workspace()
    target = path.absolute() if path else environment_folder(workspace)
    fresh = make_xtuner_environment(target, target.with_name(f"{target.name}.log"), cuda=cuda)
    state = "made" if fresh else "up to date"
    print(
        json.dumps({"environment": str(target), "made": fresh})
        if as_json
        else f"environment {state}: {target}"
    )


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="XTuner's iter_N.pth or epoch_N.pth, a file or folder.")],
    out: Annotated[Path, typer.Argument(help="The adapter folder to write.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The configuration it was trained with; default: beside it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint of XTuner to an adapter that PEFT and `train merge` read."""
    from training.checkpoint_conversion import convert_checkpoint

    manifest = convert_checkpoint(checkpoint, out, config)
    facts = manifest.facts
    print(
        json.dumps({"adapter": str(out), **facts}, ensure_ascii=False)
        if as_json
        else f"adapter: {out} (rank {facts['lora_rank']}, from {facts['checkpoint']})"
    )


def run_backend(workspace: Workspace, place: Run, raw: RawConfig, base: str | None) -> tuple[Manifest, bool]:
    """Train the run with XTuner and save its configuration; returns (adapter's manifest, whether work was done)."""
    from training.xtuner.backend import train_with_xtuner
    from training.xtuner.config import XtunerSection

    chosen = section(raw, "xtuner", XtunerSection)
    folder = resolve_model(workspace, base or section(raw, "models", ModelsConfig).base)
    environment = chosen.environment or environment_folder(workspace)
    manifest, fresh = train_with_xtuner(place, folder, chosen, environment.absolute())
    save_config(place, raw)
    return manifest, fresh


def environment_folder(workspace: Workspace) -> Path:
    """Return where `train env xtuner` makes the environment."""
    return workspace.root / "envs" / "xtuner"
