"""`groundtune models`: fetching and listing (data.models.cli), and converting, which takes torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data.errors import UsageError
from data.models.cli import app

KINDS = ("internlm-chat-7b",)


@app.command()
def convert(
    kind: Annotated[str, typer.Argument(metavar="internlm-chat-7b", help="What the folder holds.")],
    folder: Annotated[Path, typer.Argument(help="The model's folder, as fetched.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert InternLM (v1) to Llama's shape, running none of its folder's code."""
    from training.internlm.conversion import convert_internlm
    from training.progress import counted

    if kind not in KINDS:
        raise UsageError(f"{kind!r}: no such conversion; known: {', '.join(KINDS)}")
    with counted("converting") as advance:
        manifest, fresh = convert_internlm(folder, out, on_tensor=advance)
    state = "written" if fresh else "up to date"
    result = {"model": str(out), "written": fresh, **manifest.facts}
    print(json.dumps(result, ensure_ascii=False) if as_json else f"model {state}: {out}")
