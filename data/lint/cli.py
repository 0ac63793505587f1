"""`groundtune data lint`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption, MapOption, RowsOption, SheetOption, parse_mapping


def lint(
    file: Annotated[Path, typer.Argument(help="The workbook (.xlsx).")],
    sheet: SheetOption = None,
    mapping: MapOption = None,
    rows: RowsOption = None,
    write_back: Annotated[
        Path | None, typer.Option("--write-back", help="Write a copy that shows each finding in its cell.")
    ] = None,
    max_findings: Annotated[
        int, typer.Option("--max", min=0, help="Print so many findings; 0 prints all.")
    ] = 200,
    as_json: JsonOption = False,
) -> None:
    """Find the faults of a knowledge sheet, by cell. Exit status 1 when there are errors."""
    from rich.console import Console

    from data.lint import report as reports
    from data.lint.lint import lint_table
    from data.lint.table import read_table
    from data.workbook import WorkbookChoice

    found = lint_table(
        read_table(WorkbookChoice(file, sheet=sheet, mapping=parse_mapping(mapping), max_rows=rows))
    )
    if write_back is not None:
        from data.lint.write_back import lost_parts
        from data.lint.write_back import write_back as write_copy

        summary = write_copy(found, write_back)
        lost = lost_parts(file)
        if lost:
            print(
                f"note: {write_back}: the copy has no {', '.join(lost)}; the original keeps them",
                file=sys.stderr,
            )
        print(f"written: {write_back} (sheet {summary!r} lists the findings)", file=sys.stderr)
    if as_json:
        print(json.dumps(reports.as_json(found), ensure_ascii=False))
    else:
        reports.print_report(found, Console(), max_findings or len(found.findings))
    if found.num_by_severity["error"]:
        raise typer.Exit(1)
