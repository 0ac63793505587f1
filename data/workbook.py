"""Reading a knowledge workbook: sheets, header, cells, and the row each cell belongs to.

The only file that imports openpyxl. Knows nothing of training sets or indexes.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter
from openpyxl.utils.exceptions import InvalidFileException

from data.columns import FIELDS, REQUIRED, has_required, resolve_columns
from data.errors import InputError
from data.records import HeldOutQuestion, Row, normalised, revision_of, row_id_of

_HEADER_SEARCH_ROWS = 20
_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")


@dataclass(frozen=True)
class WorkbookChoice:
    """What to read of a workbook.

    `sheet` None means the first sheet that is not one of the evaluation sheets; `max_rows` None means all.
    """

    path: Path
    sheet: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    skip_empty: bool = False
    paraphrases_sheet: str = "paraphrases"
    unanswerable_sheet: str = "unanswerable"


@dataclass(frozen=True)
class Knowledge:
    """What was read: rows in sheet order, the evaluation questions, and notes for the user."""

    rows: tuple[Row, ...]
    paraphrases: tuple[HeldOutQuestion, ...]
    unanswerable: tuple[HeldOutQuestion, ...]
    notes: tuple[str, ...]


def read_workbook(choice: WorkbookChoice) -> Knowledge:
    """Read the rows and the evaluation sheets of a workbook.

    Raises:
        InputError: the file is not a readable .xlsx, a sheet or column is missing, or a Q or A is blank; the
            message names the cell and the fix.
    """
    with _opened(choice.path) as book:
        sheet_name = _choose_sheet(choice, book.sheetnames)
        rows, by_number, notes = _read_rows(choice, sheet_name, book[sheet_name])
        paraphrases = _read_paraphrases(choice, book, by_number)
        unanswerable = _read_unanswerable(choice, book)
    return Knowledge(tuple(rows), tuple(paraphrases), tuple(unanswerable), tuple(notes))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(8)
        if head == _OLE_MAGIC:
            if _ENCRYPTED_STREAM in head + file.read():
                raise InputError(
                    f"{path}: the workbook is encrypted; save a copy without a password and give that"
                )
            raise InputError(f"{path}: a workbook of the old .xls kind; save it as .xlsx and give that")
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: not an Excel workbook (.xlsx), whatever its name says; save it as .xlsx from Excel"
        )
    # openpyxl keeps a sheet that was not read to its end open; a file of our own can be closed all the same.
    with path.open("rb") as file:
        try:
            book = load_workbook(file, read_only=True, data_only=True)
        except (InvalidFileException, KeyError, ValueError, zipfile.BadZipFile, OSError) as error:
            raise InputError(
                f"{path}: not a readable .xlsx workbook ({error}); open it in Excel and save it again"
            ) from error
        yield book


def _choose_sheet(choice: WorkbookChoice, names: list[str]) -> str:
    if choice.sheet is not None:
        if choice.sheet not in names:
            raise InputError(
                f"{choice.path}: no sheet {choice.sheet!r}; sheets: {', '.join(map(repr, names))}"
            )
        return choice.sheet
    for name in names:
        if name not in (choice.paraphrases_sheet, choice.unanswerable_sheet):
            return name
    raise InputError(f"{choice.path}: no sheet with knowledge rows; sheets: {', '.join(map(repr, names))}")


def _numbered_cells(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield (row number as Excel shows it, cells as text), blank rows left out."""
    if not hasattr(sheet, "iter_rows"):
        return
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = [cell_text(value) for value in values]
        if any(cell.strip() for cell in cells):
            yield number, cells


def cell_text(value: Any) -> str:
    """Return a cell's value as a person sees it: whole numbers without `.0`, midnight dates without a time."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return (
            value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "minutes")
        )
    return str(value)


def _read_rows(
    choice: WorkbookChoice, sheet_name: str, sheet: Any
) -> tuple[list[Row], dict[int, Row], list[str]]:
    where = f"{choice.path.name}#{sheet_name}"
    numbered = _numbered_cells(sheet)
    columns = _find_header(choice, where, numbered)
    rows: list[Row] = []
    by_number: dict[int, Row] = {}
    seen: dict[str, Row] = {}
    notes = [f"{where}: no column for {name}" for name in FIELDS if name not in columns]
    blanks: list[str] = []
    for number, cells in numbered:
        if choice.max_rows is not None and len(by_number) >= choice.max_rows:
            notes.append(f"{where}: took the first {choice.max_rows} rows")
            break
        value = {name: cells[place] if place < len(cells) else "" for name, place in columns.items()}
        empty = [name for name in REQUIRED if not value[name].strip()]
        if empty:
            blanks += [
                f"{sheet_name}!{get_column_letter(columns[name] + 1)}{number} (empty {name!r})"
                for name in empty
            ]
            continue
        row = _row(value, f"{where}!{get_column_letter(columns['Q'] + 1)}{number}")
        first = seen.get(row.row_id)
        if first is not None and first.revision == row.revision:
            notes.append(f"{row.source}: the same question and answer as {first.source}; kept once")
            by_number[number] = first
            continue
        if first is not None:
            # Both answers are knowledge; the id of the second must differ and must not depend on row order.
            row = _row(value, row.source, row_id=f"{row.row_id}-{row.revision[:4]}")
            notes.append(f"{row.source}: the same question as {first.source} with another answer; both kept")
        seen.setdefault(row.row_id, row)
        by_number[number] = row
        rows.append(row)
    if blanks:
        shown = ", ".join(blanks[:5]) + (f" and {len(blanks) - 5} more" if len(blanks) > 5 else "")
        if not choice.skip_empty:
            raise InputError(
                f"{choice.path}: {shown}: fill the cell, or pass --skip-empty to leave such rows out"
            )
        notes.append(f"{where}: left out rows with {shown}")
    if not rows:
        raise InputError(
            f"{choice.path}: sheet {sheet_name!r} has a header and no rows below it; add rows or pass --sheet"
        )
    return rows, by_number, notes


def _find_header(
    choice: WorkbookChoice, where: str, numbered: Iterator[tuple[int, list[str]]]
) -> dict[str, int]:
    first: list[str] | None = None
    for number, cells in numbered:
        first = first or cells
        if has_required(cells, choice.mapping):
            return resolve_columns(cells, choice.mapping, where)
        if number >= _HEADER_SEARCH_ROWS:
            break
    if first is None:
        raise InputError(f"{where}: the sheet is empty; pass --sheet to read another one")
    return resolve_columns(first, choice.mapping, where)


def _row(value: Mapping[str, str], source: str, row_id: str | None = None) -> Row:
    info_1, info_2, question, answer = (value.get(name, "") for name in FIELDS)
    return Row(
        row_id=row_id or row_id_of(info_1, info_2, question),
        revision=revision_of(answer),
        info_1=info_1,
        info_2=info_2,
        question=question,
        answer=answer,
        source=source,
    )


def _read_paraphrases(
    choice: WorkbookChoice, book: Any, by_number: Mapping[int, Row]
) -> list[HeldOutQuestion]:
    questions = []
    for where, cells in _evaluation_rows(choice, book, choice.paraphrases_sheet, ("row", "question")):
        if not cells["row"].isdigit():
            raise InputError(
                f"{where}: 'row' is {cells['row']!r}; it must be the number of a row of the knowledge sheet"
            )
        row = by_number.get(int(cells["row"]))
        if row is not None:
            questions.append(HeldOutQuestion(cells["question"], row.row_id, row.answer, where))
        elif choice.max_rows is None and not choice.skip_empty:
            raise InputError(
                f"{where}: 'row' names row {cells['row']}, which holds no question; correct the number"
            )
    return questions


def _read_unanswerable(choice: WorkbookChoice, book: Any) -> list[HeldOutQuestion]:
    rows = _evaluation_rows(choice, book, choice.unanswerable_sheet, ("question",))
    return [HeldOutQuestion(cells["question"], "", "", where) for where, cells in rows]


def _evaluation_rows(
    choice: WorkbookChoice, book: Any, sheet_name: str, names: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    if sheet_name not in book.sheetnames:
        return
    numbered = _numbered_cells(book[sheet_name])
    _, header = next(numbered, (0, []))
    places = {normalised(text): place for place, text in enumerate(header)}
    for name in names:
        if name not in places:
            raise InputError(
                f"{choice.path}: sheet {sheet_name!r} has no column {name!r}; headers: {', '.join(header)}"
            )
    for number, cells in numbered:
        yield (
            f"{choice.path.name}#{sheet_name}!A{number}",
            {name: cells[places[name]].strip() for name in names},
        )
