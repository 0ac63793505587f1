"""`groundtune train export`: the merged model for another engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from data.errors import UsageError
from data.workspace import open_workspace


def export(
    out: Annotated[Path, typer.Argument(help="File (gguf) or folder (awq) to write.")],
    file_format: Annotated[
        Literal["gguf", "awq"], typer.Option("--format", help="gguf: llama.cpp; awq: LMDeploy, needs a GPU.")
    ] = "gguf",
    kind: Annotated[
        Literal["f16", "q8_0", "q4_0"], typer.Option("--type", help="How GGUF stores matrices.")
    ] = "f16",
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    model: Annotated[Path | None, typer.Option(help="Model folder; default: the run's merged/.")] = None,
    python: Annotated[
        Path | None, typer.Option(help="awq: the interpreter of the environment that holds LMDeploy.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the run's merged model as GGUF or AWQ."""
    folder = model or open_workspace().run(name).merged
    if file_format == "awq":
        from training.awq_export import export_awq

        if python is None:
            raise UsageError("--format awq: give LMDeploy's interpreter with --python ENVIRONMENT/bin/python")
        export_awq(folder, out, python)
        print(json.dumps({"folder": str(out)}) if as_json else f"AWQ model written: {out}")
        return
    from training.gguf_export import export_gguf
    from training.progress import counted

    with counted("exporting") as advance:
        size_bytes = export_gguf(folder, out, kind, advance)
    result = {"file": str(out), "type": kind, "size_bytes": size_bytes}
    print(json.dumps(result) if as_json else f"GGUF file written: {out} ({kind}, {size_bytes / 1e6:,.0f} MB)")
