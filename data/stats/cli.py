"""`groundtune data stats`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data.options import JsonOption, MapOption, RowsOption, SheetOption, parse_mapping


def stats(
    file: Annotated[Path, typer.Argument(help="A workbook, a dataset folder, or its rows.jsonl.")],
    sheet: SheetOption = None,
    mapping: MapOption = None,
    rows: RowsOption = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw it: a PNG file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count rows, categories, lengths and scripts; rows with a blank Q or A are left out."""
    from rich.console import Console

    from data.errors import InputError
    from data.row_source import RowSource, read_rows
    from data.stats import report
    from data.stats.numbers import count_rows

    found = read_rows(RowSource(file, sheet, parse_mapping(mapping), rows))
    if not found:
        raise InputError(f"{file}: no rows; nothing to count")
    counted = count_rows(found)
    legend = report.draw_stats(counted, picture) if picture is not None else {}
    if as_json:
        shown = report.as_json(counted)
        print(json.dumps({**shown, "labels": legend} if picture else shown, ensure_ascii=False))
        return
    report.print_stats(counted, file.name, Console())
    for number, name in legend.items():
        print(f"{number} {name}")
    if picture is not None:
        print(f"written: {picture}", file=sys.stderr)
