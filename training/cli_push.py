"""`groundtune train push`: a merged model or an adapter to a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from data.errors import UsageError
from data.workspace import open_workspace


def push(
    to: Annotated[str, typer.Option("--to", help="hf:OWNER/NAME or modelscope:OWNER/NAME.")],
    what: Annotated[
        Literal["merged", "adapter"], typer.Option("--what", help="Which folder goes.")
    ] = "merged",
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    license_id: Annotated[
        str | None, typer.Option("--license", help="The card's license, as in apache-2.0.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Create the repository public, not private.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; upload nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Upload the model's files and a model card; never the dataset."""
    hub_name, _, model_id = to.partition(":")
    if hub_name not in ("hf", "modelscope") or model_id.count("/") != 1 or not all(model_id.split("/")):
        raise UsageError(f"--to {to!r}: expected hf:OWNER/NAME or modelscope:OWNER/NAME")

    from training import push as pushing

    workspace = open_workspace()
    run = workspace.run(name)
    folder = run.merged if what == "merged" else run.adapter
    plan = pushing.plan_push(folder, run.dataset, license_id, (workspace.root, Path.home()))
    total = sum(item.size_bytes for item in plan.files)
    result = {"to": to, "files": {item.name: item.size_bytes for item in plan.files}, "size_bytes": total}
    if not as_json:
        for item in plan.files:
            print(f"{item.size_bytes:>15,}  {item.name}")
    if dry_run:
        print(json.dumps(result | {"card": plan.card}) if as_json else f"\n{plan.card}\nnothing was uploaded")
        return
    hub: pushing.Hub = pushing.HuggingFaceHub() if hub_name == "hf" else pushing.ModelScopeHub()
    url = pushing.push(plan, model_id, hub, private=not public)
    print(json.dumps(result | {"url": url}) if as_json else f"uploaded {total:,} bytes: {url}")
