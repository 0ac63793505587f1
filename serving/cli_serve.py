"""`groundtune serve`: base, tuned, base-rag and tuned-rag behind one OpenAI-compatible API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from serving.cli_keys import app as keys_app
from serving.cli_reload import reload

app = typer.Typer(
    add_completion=False,
    help="Serve base, tuned, base-rag and tuned-rag behind one OpenAI-compatible API; Ctrl-C stops all.",
)
app.add_typer(keys_app, name="keys")
app.command()(reload)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML of configs/; without it, the run's own.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8000,
    base: Annotated[
        str | None, typer.Option(help="Base model: a fetched model's name or a folder; default: models.base.")
    ] = None,
    merged: Annotated[
        Path | None, typer.Option(help="Merged model's folder; default: the run's own.")
    ] = None,
    require_tuned: Annotated[
        bool, typer.Option("--require-tuned", help="Fail where there is no merged model.")
    ] = False,
) -> None:
    """Start the engines and the gateway, unless a subcommand was asked for."""
    if context.invoked_subcommand is not None:
        return
    from data.workspace import open_workspace
    from serving.preparation import Choices, newer_releases, prepare_service
    from serving.service import run_service

    workspace = open_workspace()
    choices = Choices(config, name, tuple(settings or ()), host, port, base, merged, require_tuned)
    service, notes = prepare_service(workspace, choices)
    for note in notes:
        print(note, file=sys.stderr)
    print("starting " + ", ".join(service.lineup.models.ids), file=sys.stderr)

    def on_ready(url: str) -> None:
        ids = service.lineup.models.ids
        body = f'{{"model": "{ids[-1]}", "messages": [{{"role": "user", "content": "你好"}}]}}'
        print(f"ready: {url}  (models: {', '.join(ids)}; Ctrl-C stops)", file=sys.stderr)
        print(
            f"  curl {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'", file=sys.stderr
        )

    run_service(service, on_ready, newer_releases(workspace, choices))
    print("stopped", file=sys.stderr, flush=True)
    # A thread may still be loading the index. It cannot be stopped, and at the interpreter's own end it could
    # only crash; everything that needs closing is closed.
    os._exit(0)
