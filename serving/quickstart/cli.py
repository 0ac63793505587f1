"""`groundtune quickstart`: the whole path in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Take a workbook to a tuned, served, grounded assistant and compare.")


@app.command()
def quickstart(
    workbook: Annotated[Path | None, typer.Option(help="The workbook (.xlsx); default: the sample.")] = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=HEADER, as in 'Q=Question'.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet to read; default: the first.")] = None,
    rows: Annotated[int | None, typer.Option(help="Take only the first so many rows.")] = None,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Leave out rows with a blank Q or A.")
    ] = False,
    questions: Annotated[
        Path | None, typer.Option(help="Held-out questions, JSON Lines of row and question.")
    ] = None,
    ask: Annotated[int | None, typer.Option(help="How many held-out questions to ask; 0 asks all.")] = None,
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Serve and ask also where all answers are up to date.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="The run's name under var/runs/.")] = "quickstart",
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML of configs/; default: built in.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, laid over the configuration.")
    ] = None,
) -> None:
    """Prepare, fetch, train, merge, index, serve, ask, report; finished steps are skipped.

    Writes report.json and report.html to var/quickstart/ and to var/runs/NAME/.
    """
    import importlib
    import shlex

    from rich.console import Console

    from data.cli import workbook_overrides
    from data.config import read_config, section
    from data.workspace import open_workspace
    from serving.quickstart.flow import run_quickstart
    from serving.quickstart.sections import SECTION_SCHEMAS

    workspace = open_workspace()
    run = workspace.run(name)
    raw = read_config(config, settings or ())
    given = workbook_overrides(workbook, sheet, mapping, rows, skip_empty)
    if questions is not None:
        given["questions"] = str(questions)
    raw.setdefault("workbook", {}).update(given)
    if ask is not None:
        raw.setdefault("ask", {})["questions"] = ask
    # All of the configuration is checked before the first step works for minutes.
    for section_name, place in SECTION_SCHEMAS.items():
        module, _, schema = place.partition(":")
        section(raw, section_name, getattr(importlib.import_module(module), schema))
    command = shlex.join(["groundtune", *sys.argv[1:]])
    report = run_quickstart(workspace, run, raw, command, Console(stderr=True), ask_again=ask_again)
    print(f"report: {report}")
