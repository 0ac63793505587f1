"""What a workbook is to the rest of the project: named sheets that yield rows of text, whatever the file's format.

Knows no format; the readers beside it (xlsx, xls, csv) make these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Kind = Literal["text", "number", "date", "boolean", "error"]
State = Literal["visible", "hidden", "very hidden"]
Format = Literal["xlsx", "xls", "csv"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What is worth knowing of a cell beyond its text; a cell of plain text has none.

    `cached` False: a formula whose result the file does not hold, so that its text is "". `merged_from`: the
    cell, as in `A3`, whose value this one shows because they are merged.
    """

    kind: Kind = "text"
    formula: bool = False
    cached: bool = True
    merged_from: str = ""


class Cell(NamedTuple):
    """One cell that holds something: where it is (`column` 0-based), its text as people see it, its mark."""

    row: int
    column: int
    text: str
    mark: Mark

    @property
    def reference(self) -> str:
        """The cell's name, as in `B17`."""
        return cell_name(self.row, self.column)


class SheetRow(NamedTuple):
    """One row of a sheet.

    `number` is the one that Excel shows beside it. `texts` has "" for a blank cell and ends at the last cell that
    holds something. `marks` has the columns (0-based) whose cell is not just text.
    """

    number: int
    texts: list[str]
    marks: Mapping[int, Mark]
    hidden: bool

    def cells(self) -> Iterator[Cell]:
        """Yield the cells that hold text or have a mark, left to right."""
        for column, text in enumerate(self.texts):
            mark = self.marks.get(column)
            if text or mark is not None:
                yield Cell(self.number, column, text, mark or PLAIN)


PLAIN = Mark()


class Sheet(Protocol):
    """One sheet of an opened workbook."""

    @property
    def name(self) -> str:
        """The name on its tab; of a .csv the file's name without the suffix, as Excel shows it."""

    @property
    def state(self) -> State:
        """Whether people see its tab."""

    def rows(self) -> Iterator[SheetRow]:
        """Yield the rows that hold something, from the top; each call reads the file anew, in bounded memory.

        Raises:
            InputError: the sheet is damaged, or beyond a limit of `data.sheets.limits`.
        """


@dataclass(frozen=True)
class SheetFile:
    """An opened workbook: its format by content (not by name) and its sheets in tab order."""

    format: Format
    sheets: tuple[Sheet, ...]


def column_name(column: int) -> str:
    """Return the letters of a 0-based column: 0 is A, 26 is AA."""
    letters = ""
    column += 1
    while column:
        column, place = divmod(column - 1, 26)
        letters = chr(65 + place) + letters
    return letters


def cell_name(row: int, column: int) -> str:
    """Return a cell's name: row 17 and 0-based column 1 are B17."""
    return f"{column_name(column)}{row}"
