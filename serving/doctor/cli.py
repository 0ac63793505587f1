"""`groundtune doctor`: hardware, versions, models, index, server; a fix for each fault."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from data.options import NameOption
from data.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.doctor.findings import Finding

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    name: NameOption = "quickstart",
    port: Annotated[int, typer.Option(help="The port that a server would listen on.")] = 8000,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file of models, run and index, and compare digests.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look at this machine and a run, and name a fix for each fault; exit status 1 where there is one."""
    from serving.doctor.machine import check_machine
    from serving.doctor.run import check_run

    workspace = open_workspace()
    found = [*check_machine(workspace), *check_run(workspace, workspace.run(name), port=port, deep=deep)]
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], ensure_ascii=False))
    else:
        _print(found)
    if any(finding.state == "fault" for finding in found):
        raise typer.Exit(1)


def _print(found: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False)
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    for finding in found:
        fix = f"\n-> {escape(finding.fix)}" if finding.fix else ""
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(state, escape(finding.subject), escape(finding.detail) + fix)
    Console().print(table)
    faults = sum(finding.state == "fault" for finding in found)
    print("no faults" if not faults else f"{faults} fault{'s' if faults > 1 else ''}")
