"""Reading the old .xls through xlrd. The only file that imports xlrd.

The format ends at 65,536 rows, and xlrd holds the workbook in memory. Results of formulas come as values; which cells
have a formula is not told.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.sheets import limits
from data.sheets.merged import Filler, Merge
from data.sheets.model import Kind, Mark, SheetFile, SheetRow, State, cell_name
from data.sheets.number_format import Shown, formatter

_STATES: tuple[State, ...] = ("visible", "hidden", "very hidden")
_MARKS: dict[Kind, Mark] = {kind: Mark(kind) for kind in ("number", "date", "boolean", "error")}


def open_xls(path: Path, closing: ExitStack) -> SheetFile:
    """Open a workbook; `closing` closes it.

    Raises:
        InputError: it is encrypted, damaged, or too large.
    """
    import xlrd

    size = path.stat().st_size
    if size > limits.MAX_XLS_BYTES:
        raise limits.beyond(path, f"an .xls of {size:,} bytes", "save it as .xlsx")
    try:
        # What xlrd says of oddities is for its developers.
        book = xlrd.open_workbook(str(path), formatting_info=True, on_demand=True, logfile=io.StringIO())
    except xlrd.XLRDError as error:
        if "encrypted" in str(error).lower() or "password" in str(error).lower():
            raise InputError(
                f"{path}: the workbook is encrypted; save a copy without a password and give that"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # xlrd reads damaged files into any exception
        raise _damaged(path, error) from error
    closing.callback(book.release_resources)
    return SheetFile(
        "xls",
        tuple(_XlsSheet(path, book, place, name) for place, name in enumerate(book.sheet_names())),
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable .xls workbook ({error}); save it as .xlsx and give that")


@dataclass(frozen=True)
class _XlsSheet:
    path: Path
    book: Any
    place: int
    name: str

    @property
    def state(self) -> State:
        state: State = _STATES[min(int(self._sheet().visibility), 2)]
        return state

    def rows(self) -> Iterator[SheetRow]:
        sheet = self._sheet()
        filler = Filler(
            [Merge(top + 1, bottom, left, right - 1) for top, bottom, left, right in sheet.merged_cells]
        )
        for index in range(sheet.nrows):
            texts: list[str] = []
            marks: dict[int, Mark] = {}
            for column in range(sheet.row_len(index)):
                text, kind = self._shown(sheet.cell(index, column))
                if len(text) > limits.MAX_CELL_CHARS:
                    name = cell_name(index + 1, column)
                    raise limits.beyond(
                        self.path, f"cell {name} holds {len(text):,} characters", "shorten it"
                    )
                texts.append(text)
                if text and kind != "text":
                    marks[column] = _MARKS[kind]
            filler.fill(index + 1, texts, marks)
            while texts and not texts[-1]:
                texts.pop()
            if texts:
                info = sheet.rowinfo_map.get(index)
                yield SheetRow(index + 1, texts, marks, bool(info is not None and info.hidden))

    def _sheet(self) -> Any:
        try:
            return self.book.sheet_by_index(self.place)
        except Exception as error:  # xlrd reads damaged files into any exception
            raise _damaged(self.path, error) from error

    def _shown(self, cell: Any) -> Shown:
        import xlrd

        if cell.ctype in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
            style = self.book.xf_list[cell.xf_index]
            code = self.book.format_map[style.format_key].format_str
            return formatter(code, from_1904=bool(self.book.datemode))(repr(cell.value))
        if cell.ctype == xlrd.XL_CELL_BOOLEAN:
            return ("TRUE" if cell.value else "FALSE"), "boolean"
        if cell.ctype == xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, "#ERROR!")), "error"
        return str(cell.value or ""), "text"
