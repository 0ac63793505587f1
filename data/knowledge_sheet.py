"""The knowledge sheets of a workbook: which they are, where their header is, and the cells below it by field.

Nothing is left out and nothing judged here; `data.workbook` takes what is usable and `data.lint` what is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from data.columns import Review, find_review, has_required, resolve_columns
from data.errors import InputError
from data.sheets import Mark, Sheet, SheetFile, SheetRow, cell_name, open_workbook

ALL_SHEETS = "*"
_HEADER_SEARCH_ROWS = 20


@dataclass(frozen=True)
class WorkbookChoice:
    """What to read of a workbook.

    `sheet` None means the first visible sheet that is not one of the evaluation sheets, `*` all of them that have a
    header; `max_rows` None means all.
    """

    path: Path
    sheet: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    skip_empty: bool = False
    paraphrases_sheet: str = "paraphrases"
    unanswerable_sheet: str = "unanswerable"


class Line(NamedTuple):
    """One row below the header: its number as Excel shows it, the text of each field's cell, marks by field.

    `approved` is False for a draft that awaits review.
    """

    number: int
    cells: Mapping[str, str]
    marks: Mapping[str, Mark]
    hidden: bool
    approved: bool = True


@dataclass(frozen=True)
class KnowledgeSheet:
    """A sheet's header, and the lines below it."""

    path: Path
    name: str
    header_row: int
    columns: Mapping[str, int]
    """Field to 0-based column, for the fields that the sheet has."""
    sheet: Sheet
    review: Review | None = None

    @property
    def where(self) -> str:
        """What errors and sources call it, as in `知识库内容.xlsx#知识库`."""
        return f"{self.path.name}#{self.name}"

    def cell(self, number: int, name: str) -> str:
        """Return the name of a field's cell, as in `C17`."""
        return cell_name(number, self.columns[name])

    def lines(self) -> Iterator[Line]:
        """Yield the rows below the header that hold something in any column; each call reads the sheet anew.

        A heading, one cell merged over the question and the answer, is no row of knowledge.
        """
        names, places = tuple(self.columns), tuple(self.columns.values())
        pick, width = itemgetter(*places), max(places) + 1
        nothing: Mapping[str, Mark] = {}
        make = tuple.__new__
        review, approved = self.review, True
        for number, texts, row_marks, hidden in self.sheet.rows():
            if number <= self.header_row:
                continue
            if len(texts) < width:
                texts = texts + [""] * (width - len(texts))
            marks = nothing
            if row_marks:
                marks = {name: row_marks[place] for name, place in self.columns.items() if place in row_marks}
                if self._is_heading(number, marks):
                    continue
            if review is not None:
                approved = review.approves(texts[review.column] if review.column < len(texts) else "")
            # As Line(...) does, in half the time.
            yield make(Line, (number, dict(zip(names, pick(texts), strict=True)), marks, hidden, approved))

    def _is_heading(self, number: int, marks: Mapping[str, Mark]) -> bool:
        question, answer = (marks[name].merged_from if name in marks else "" for name in ("Q", "A"))
        if question and answer:
            return question == answer
        return (answer or question) in {self.cell(number, "Q"), self.cell(number, "A")}


@dataclass(frozen=True)
class KnowledgeBook:
    """An opened workbook: its knowledge sheets, all its sheets, and what the user should know of the choice."""

    sheets: tuple[KnowledgeSheet, ...]
    file: SheetFile
    notes: tuple[str, ...]


@contextmanager
def open_knowledge(choice: WorkbookChoice) -> Iterator[KnowledgeBook]:
    """Open a workbook and find its knowledge sheets.

    Raises:
        InputError: the file is not a readable workbook, or a sheet or a column is missing.
    """
    with open_workbook(choice.path) as file:
        sheets, notes = _knowledge_sheets(choice, file)
        yield KnowledgeBook(tuple(sheets), file, tuple(notes))


def _knowledge_sheets(choice: WorkbookChoice, file: SheetFile) -> tuple[list[KnowledgeSheet], list[str]]:
    names = ", ".join(repr(sheet.name) for sheet in file.sheets)
    if choice.sheet not in (None, ALL_SHEETS):
        for sheet in file.sheets:
            if sheet.name == choice.sheet:
                return [_with_header(choice, sheet)], []
        raise InputError(f"{choice.path}: no sheet {choice.sheet!r}; sheets: {names}")
    evaluation = (choice.paraphrases_sheet, choice.unanswerable_sheet)
    candidates = [sheet for sheet in file.sheets if sheet.name not in evaluation]
    notes = [
        f"{choice.path.name}: sheet {sheet.name!r} is {sheet.state} and was not read; --sheet reads it"
        for sheet in candidates
        if sheet.state != "visible"
    ]
    visible = [sheet for sheet in candidates if sheet.state == "visible"]
    if not visible:
        raise InputError(f"{choice.path}: no visible sheet with knowledge rows; sheets: {names}")
    if choice.sheet is None:
        return [_with_header(choice, visible[0])], notes
    found = []
    for sheet in visible:
        try:
            found.append(_with_header(choice, sheet))
        except InputError as error:
            notes.append(f"sheet {sheet.name!r} was not read: {error}")
    if not found:
        raise InputError(
            f"{choice.path}: no sheet has columns Q and A; sheets: {names}; say which: --map Q='HEADER'"
        )
    return found, notes


def _with_header(choice: WorkbookChoice, sheet: Sheet) -> KnowledgeSheet:
    where = f"{choice.path.name}#{sheet.name}"
    first: SheetRow | None = None
    header: SheetRow | None = None
    for row in sheet.rows():
        if not any(text.strip() for text in row.texts):
            continue
        first = first or row
        if has_required(row.texts, choice.mapping):
            header = row
            break
        if row.number >= _HEADER_SEARCH_ROWS:
            break
    header = header or first
    if header is None:
        raise InputError(f"{where}: the sheet is empty; pass --sheet to read another one")
    columns = resolve_columns(header.texts, choice.mapping, where)
    review = find_review(header.texts)
    if review is not None and review.column in columns.values():
        review = None
    return KnowledgeSheet(choice.path, sheet.name, header.number, columns, sheet, review)
