"""`groundtune serve keys`: add, list and remove the keys that a server asks for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="API keys: once there is one, every request needs one.",
)

_File = Annotated[
    Path | None,
    typer.Option("--file", help="The key file; default: keys.json under var/. See serve.keys_file."),
]
_Name = Annotated[str, typer.Argument(help="Whose key it is: letters, digits, '-', '_', '.', '@'.")]


@app.command()
def add(
    name: _Name,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Most requests in any minute; without it, any number.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Most tokens, of prompts and answers, a day (UTC).")
    ] = None,
    file: _File = None,
) -> None:
    """Make a key and print it, this once: only its SHA-256 is kept."""
    from serving.access.keys import add_key

    path = _path(file)
    print(add_key(path, name, requests_per_minute=requests_per_minute, tokens_per_day=tokens_per_day))
    print(f"key {name!r} added to {path}; a server that already asks for keys takes it now", file=sys.stderr)


@app.command("list")
def list_keys(
    file: _File = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, without the hashes.")] = False,
) -> None:
    """List names and limits."""
    from serving.access.keys import read_keys

    keys = read_keys(_path(file))
    if as_json:
        print(json.dumps([key.model_dump(exclude={"sha256"}) for key in keys], ensure_ascii=False))
        return
    for key in keys:
        rate = (
            f"{key.requests_per_minute} requests/min" if key.requests_per_minute else "any number of requests"
        )
        tokens = f"{key.tokens_per_day} tokens/day" if key.tokens_per_day else "any number of tokens"
        print(f"{key.name}  {key.created}  {rate}, {tokens}")


@app.command()
def remove(name: _Name, file: _File = None) -> None:
    """Remove a key; a running server refuses it a second later."""
    from serving.access.keys import remove_key

    path = _path(file)
    remove_key(path, name)
    print(f"key {name!r} removed from {path}", file=sys.stderr)


def _path(file: Path | None) -> Path:
    from data.workspace import open_workspace

    return file or open_workspace().keys
