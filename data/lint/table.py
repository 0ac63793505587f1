"""The cells of a knowledge sheet as lint looks at them: every row, blank or not, with its cells' names.

`data.workbook` reads what is usable and stops at what is not; here nothing is left out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from data.workbook import WorkbookChoice, _choose_sheet, _find_header, _numbered_cells, _opened

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """One row: its number as Excel shows it, and the text of each field's cell, as it stands there."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A sheet's knowledge columns.

    `columns` is field to column letter; `uncached` names the cells with a formula and no value.
    """

    path: Path
    sheet: str
    header_row: int
    columns: Mapping[str, str]
    lines: tuple[Line, ...]
    uncached: frozenset[str]

    def cell(self, line: Line, field: str) -> str:
        """Return the name of a cell, as in `C17`."""
        return f"{self.columns[field]}{line.number}"


def read_table(choice: WorkbookChoice) -> Table:
    """Read the knowledge sheet of a workbook.

    Raises:
        InputError: the file is not a readable workbook, or a sheet or a column is missing.
    """
    with _opened(choice.path) as book:
        name = _choose_sheet(choice, book.sheetnames)
        header_rows: list[int] = []

        def numbered() -> Iterator[tuple[int, list[str]]]:
            for number, cells in _numbered_cells(book[name]):
                header_rows.append(number)
                yield number, cells

        rows = numbered()
        places = _find_header(choice, f"{choice.path.name}#{name}", rows)
        header_row = header_rows[-1]
        lines: list[Line] = []
        for number, cells in rows:
            if choice.max_rows is not None and len(lines) >= choice.max_rows:
                break
            texts = {
                field: cells[place] if place < len(cells) else "" for field, place in sorted(places.items())
            }
            lines.append(Line(number, texts))
    columns = {field: get_column_letter(place + 1) for field, place in places.items()}
    last_row = lines[-1].number if lines else header_row
    blank = {f"{columns[field]}{line.number}" for line in lines for field in columns if not line.cells[field]}
    uncached = _formula_cells(choice.path, name, set(places.values()), last_row) & blank
    return Table(choice.path, name, header_row, columns, tuple(lines), frozenset(uncached))


def _formula_cells(path: Path, sheet: str, places: set[int], last_row: int) -> set[str]:
    """Return the names of the cells that hold a formula, in the columns at `places`."""
    if not _has_formulas(path):
        return set()
    found = set()
    with path.open("rb") as file:
        book: Any = load_workbook(file, read_only=True, data_only=False)
        for number, row in enumerate(book[sheet].iter_rows(max_row=last_row), start=1):
            for place in places:
                if place < len(row) and row[place].data_type == "f":
                    found.add(f"{get_column_letter(place + 1)}{number}")
    return found


def _has_formulas(path: Path) -> bool:
    """Tell whether any sheet has a formula; saves reading the workbook a second time when none has."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            with archive.open(name) as part:
                before = b""
                while chunk := part.read(_CHUNK_BYTES):
                    seen = before + chunk
                    if b"<f>" in seen or b"<f " in seen or b"<f/" in seen:
                        return True
                    before = chunk[-2:]
    return False
