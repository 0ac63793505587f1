"""The cells of a knowledge sheet as lint looks at them: every row, blank or not, with its cells' names.

`data.workbook` reads what is usable and stops at what is not; here nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.knowledge_sheet import WorkbookChoice, open_knowledge
from data.sheets import column_name


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
    """Read the knowledge sheet of a workbook, the first if all are chosen.

    Raises:
        InputError: the file is not a readable workbook, or a sheet or a column is missing.
    """
    lines: list[Line] = []
    uncached: set[str] = set()
    with open_knowledge(choice) as book:
        sheet = book.sheets[0]
        for line in sheet.lines():
            if choice.max_rows is not None and len(lines) >= choice.max_rows:
                break
            lines.append(Line(line.number, line.cells))
            uncached |= {
                sheet.cell(line.number, name) for name, mark in line.marks.items() if not mark.cached
            }
    columns = {name: column_name(place) for name, place in sheet.columns.items()}
    return Table(choice.path, sheet.name, sheet.header_row, columns, tuple(lines), frozenset(uncached))
