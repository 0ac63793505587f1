"""`groundtune data diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption, MapOption, RowsOption, SheetOption, parse_mapping


def diff(
    old: Annotated[Path, typer.Argument(help="A workbook, a dataset folder, or its rows.jsonl.")],
    new: Annotated[Path, typer.Argument(help="The same, as it is now.")],
    sheet: SheetOption = None,
    mapping: MapOption = None,
    rows: RowsOption = None,
    run: Annotated[
        str | None, typer.Option(help="Also say what this run's tuned model and index still hold.")
    ] = None,
    max_changes: Annotated[
        int, typer.Option("--max", min=0, help="Print so many changes; 0 prints all.")
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show which rows were added, removed, revised, reworded or moved, and what to embed or train again."""
    from rich.console import Console

    from data.diff import report as reports
    from data.diff.changes import diff_rows
    from data.diff.run_state import index_work, read_run_state
    from data.row_source import RowSource, read_rows
    from data.workspace import open_workspace

    state = read_run_state(open_workspace().run(run)) if run is not None else None
    columns = parse_mapping(mapping)
    before, after = (read_rows(RowSource(path, sheet, columns, rows)) for path in (old, new))
    changes = diff_rows(before, after)
    found = reports.DiffReport(changes, index_work(changes.changes, after, state), state)
    if as_json:
        print(json.dumps(reports.as_json(found), ensure_ascii=False))
    else:
        reports.print_report(found, Console(), max_changes or len(changes.changes))
