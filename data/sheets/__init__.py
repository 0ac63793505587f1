"""Reading workbook files (.xlsx, .xls, .csv) as sheets of text rows.

    with open_workbook(path) as book:
        for sheet in book.sheets:
            for row in sheet.rows():
                row.number, row.texts, row.marks, row.hidden

Knows nothing of headers, questions or answers: those are `data.workbook`'s.
"""

from __future__ import annotations

from data.sheets.model import Cell, Kind, Mark, Sheet, SheetFile, SheetRow, State, cell_name, column_name
from data.sheets.opening import open_workbook

__all__ = [
    "Cell",
    "Kind",
    "Mark",
    "Sheet",
    "SheetFile",
    "SheetRow",
    "State",
    "cell_name",
    "column_name",
    "open_workbook",
]
