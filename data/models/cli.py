"""`groundtune models`: fetch models, and list what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.models.catalogue import CATALOGUE, DEFAULTS
from data.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from data.models.progress import Stage

app = typer.Typer(no_args_is_help=True, help="Fetch and list base and embedding models.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback()
def root() -> None:
    """Groups the subcommands."""


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help=f"A name of `models list`, hf:ORG/NAME[@REV] or modelscope:ORG/NAME. Default: {', '.join(DEFAULTS)}.",
        ),
    ] = None,
    keep_gguf: Annotated[
        bool, typer.Option("--keep-gguf", help="Keep NAME.gguf beside the folder, for llama.cpp.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch models into var/models; those that are there already are left alone."""
    from data.models.fetch import fetch_models

    with _progress_bars() as stage:
        fetched = fetch_models(open_workspace(), names or DEFAULTS, stage, keep_gguf=keep_gguf)
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "model": model.reference,
                        "folder": str(model.folder),
                        "fetched": model.fresh,
                        "weights_bytes": model.weights_bytes,
                    }
                    for model in fetched
                ],
                ensure_ascii=False,
            )
        )
        return
    for model in fetched:
        state = "fetched" if model.fresh else "up to date"
        print(f"{model.reference} {state}: {model.folder} ({model.weights_bytes / 1e6:,.0f} MB of weights)")


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the catalogue and what is on disk."""
    models = [_catalogue_entry(open_workspace(), name) for name in CATALOGUE]
    models += _other_models(open_workspace())
    if as_json:
        print(json.dumps(models, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "parameters", "on disk", "license", box=None)
    for model in models:
        size = model["size_bytes"]
        table.add_row(
            model["name"],
            model["kind"],
            f"{model['parameters'] / 1e6:,.0f} M" if model["parameters"] else "",
            f"{size / 1e6:,.0f} MB" if size else "-",
            model["license"] or "",
        )
    Console().print(table)


def _catalogue_entry(workspace: Workspace, name: str) -> dict[str, Any]:
    model = CATALOGUE[name]
    folder = workspace.models / name
    size = _size_bytes(workspace, name)
    return {
        "name": name,
        "kind": model.kind,
        "default": name in DEFAULTS,
        "parameters": model.num_parameters,
        "license": model.license,
        "origin": model.origin,
        "source": model.source_name,
        "download_bytes": model.download_bytes,
        "folder": str(folder) if size else None,
        "size_bytes": size,
    }


def _other_models(workspace: Workspace) -> list[dict[str, Any]]:
    from data.manifest import read_manifest

    found = []
    folders = sorted(workspace.models.iterdir()) if workspace.models.is_dir() else []
    for folder in folders:
        if folder.name in CATALOGUE or folder.name.startswith(".") or not folder.is_dir():
            continue
        manifest = read_manifest(folder)
        facts = manifest.facts if manifest else {}
        found.append(
            {
                "name": folder.name,
                "kind": manifest.kind if manifest else "model",
                "default": False,
                "parameters": facts.get("parameters"),
                "license": facts.get("license"),
                "origin": facts.get("origin"),
                "source": facts.get("source", "not fetched by GroundTune"),
                "download_bytes": None,
                "folder": str(folder),
                "size_bytes": _size_bytes(workspace, folder.name),
            }
        )
    return found


def _size_bytes(workspace: Workspace, name: str) -> int | None:
    folder = workspace.models / name
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _progress_bars() -> Iterator[Stage]:
    """Show a bar a stage on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:

        def stage(description: str, total: int) -> Any:
            task = progress.add_task(description, total=total)
            return lambda done: progress.advance(task, done)

        yield stage
