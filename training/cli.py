"""`groundtune train`: from a dataset to an adapter to a merged model."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from data.config import save_config, section, settle_config
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.workspace import open_workspace
from training.cli_export import export
from training.cli_push import push
from training.cli_sweep import sweep
from training.cli_verify import verify
from training.cli_xtuner import convert, env, run_backend

app = typer.Typer(no_args_is_help=True, help="Fine-tune with LoRA, merge the adapter.")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
]
NameOption = Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def root() -> None:
    """Groups the subcommands."""


app.command()(env)
app.command()(convert)
app.command()(export)
app.command()(push)
app.command()(sweep)
app.command()(verify)


@app.command()
def run(
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    base: Annotated[str | None, typer.Option(help="Base model: a name, hf:..., or a folder.")] = None,
    backend: Annotated[str | None, typer.Option(help="peft or xtuner; default: train.backend.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA adapter on the run's dataset; a killed run of peft goes on where it was."""
    from training.adapter import train_adapter
    from training.config import TrainSection
    from training.launch import is_main

    workspace = open_workspace()
    place = workspace.run(name)
    raw = settle_config(place, config, settings or ())
    if backend is not None:
        raw.setdefault("train", {})["backend"] = backend
    chosen = section(raw, "train", TrainSection)
    if chosen.backend == "xtuner":
        manifest, fresh = run_backend(workspace, place, raw, base)
        line = f"adapter {_state(fresh)}: {place.adapter} (from {manifest.facts['checkpoint']})"
        _report({"adapter": str(place.adapter), **manifest.facts}, line, as_json)
        return
    folder = resolve_model(workspace, base or section(raw, "models", ModelsConfig).base)
    manifest, fresh = train_adapter(place, folder, chosen)
    if not is_main(chosen):
        print("this node's part of the training is done; node 0 has the adapter", file=sys.stderr)
        return
    save_config(place, raw)
    facts = dict(manifest.facts)
    held_out = f", held-out loss {facts['held_out_loss']:.3f}" if "held_out_loss" in facts else ""
    kept = f", kept step {facts['kept_step']}" if "stopped_early" in facts else ""
    _report(
        {"adapter": str(place.adapter), **facts},
        f"adapter {_state(fresh)}: {place.adapter} ({facts['num_steps']} steps, final loss {facts['final_loss']:.3f}"
        f"{held_out}{kept})",
        as_json,
    )


@app.command()
def merge(
    base: Annotated[str | None, typer.Argument(help="Base model; default: the run's.")] = None,
    adapter: Annotated[Path | None, typer.Argument(help="Adapter folder; default: the run's.")] = None,
    out: Annotated[Path | None, typer.Argument(help="Folder to write; default: the run's merged/.")] = None,
    config: ConfigOption = None,
    name: NameOption = "quickstart",
    settings: SetOption = None,
    max_shard_size: Annotated[
        str | None, typer.Option("--max-shard-size", help="As in 2GB or 500MB.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge an adapter into its base model: `train merge [BASE ADAPTER OUT]`."""
    from data.manifest import folder_digest
    from training.config import MergeSection
    from training.progress import counted

    workspace = open_workspace()
    place = workspace.run(name)
    raw = settle_config(place, config, settings or ())
    chosen = section(raw, "merge", MergeSection)
    target = out or place.merged
    source = resolve_model(workspace, base or section(raw, "models", ModelsConfig).base)
    # Begun before torch is imported, which takes seconds of one core.
    base_digest = ThreadPoolExecutor(1).submit(folder_digest, source)
    from training.merge import max_shard_bytes, merge_adapter

    limit = _size_bytes(max_shard_size) if max_shard_size else max_shard_bytes(chosen.max_shard_size_gb)
    with counted("merging") as advance:
        manifest, fresh = merge_adapter(
            source, adapter or place.adapter, target, limit, advance, base_digest=base_digest.result
        )
    _report(
        {"merged": str(target), **manifest.facts},
        f"merged model {_state(fresh)}: {target} ({manifest.facts['num_tensors']} tensors)",
        as_json,
    )


def _size_bytes(text: str) -> int:
    units = {"GB": 1_000_000_000, "MB": 1_000_000, "GIB": 1 << 30, "MIB": 1 << 20}
    for unit, factor in units.items():
        number = text.strip().upper().removesuffix(unit)
        if number != text.strip().upper() and number.strip().replace(".", "", 1).isdigit():
            return int(float(number) * factor)
    raise typer.BadParameter(f"{text!r}: expected a size as in 2GB or 500MB")


def _state(fresh: bool) -> str:
    return "written" if fresh else "up to date"


def _report(result: dict[str, Any], line: str, as_json: bool) -> None:
    print(json.dumps(result, ensure_ascii=False) if as_json else line)
