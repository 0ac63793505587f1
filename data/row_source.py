"""Rows from wherever a user has them: a workbook, a dataset folder, its rows.jsonl, or a run's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import InputError
from data.records import Row, read_records
from data.workbook import WorkbookChoice, read_workbook

_ROWS = "rows.jsonl"


@dataclass(frozen=True)
class RowSource:
    """A path, and how to read it if it is a workbook."""

    path: Path
    sheet: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None


def read_rows(source: RowSource) -> list[Row]:
    """Return the usable rows in their order; rows with a blank Q or A are left out.

    Raises:
        InputError: nothing readable is there.
    """
    path = source.path
    if path.is_dir():
        path = next(
            (place for place in (path / _ROWS, path / "dataset" / _ROWS) if place.is_file()), path / _ROWS
        )
    if path.suffix == ".jsonl":
        return read_records(path, Row)[: source.max_rows]
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a workbook (.xlsx) or a dataset folder")
    choice = WorkbookChoice(
        path, sheet=source.sheet, mapping=source.mapping, max_rows=source.max_rows, skip_empty=True
    )
    return list(read_workbook(choice).rows)
