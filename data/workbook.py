"""A knowledge workbook as rows and evaluation questions: what is usable, named; what is not, named too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from data.columns import APPROVED, FIELDS, REQUIRED
from data.errors import InputError
from data.evaluation_sheets import read_paraphrases, read_unanswerable
from data.knowledge_sheet import KnowledgeSheet, Line, WorkbookChoice, open_knowledge
from data.records import HeldOutQuestion, Row, revision_of, row_id_of

__all__ = ["Knowledge", "WorkbookChoice", "read_workbook", "row_of", "usable_lines"]

_SHOWN = 5


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
        InputError: the file is not a readable workbook, a sheet or column is missing, or a Q or A is blank; the
            message names the cell and the fix.
    """
    with open_knowledge(choice) as book:
        notes = list(book.notes)
        taken = _Taken()
        for sheet in book.sheets:
            _read_sheet(choice, sheet, taken, notes)
        if choice.max_rows is not None and taken.num_lines >= choice.max_rows:
            notes.append(f"{choice.path.name}: took the first {choice.max_rows} rows")
        partly = choice.max_rows is not None or choice.skip_empty
        paraphrases = read_paraphrases(choice, book.file, taken.by_place, book.sheets[0].name, partly=partly)
        unanswerable = read_unanswerable(choice, book.file)
    return Knowledge(tuple(taken.rows), tuple(paraphrases), tuple(unanswerable), tuple(notes))


@dataclass
class _Taken:
    """The rows so far; `by_place` finds them by sheet and row number, a repeated row as its first."""

    rows: list[Row] = field(default_factory=list)
    by_place: dict[tuple[str, int], Row] = field(default_factory=dict)
    first_by_id: dict[str, Row] = field(default_factory=dict)

    @property
    def num_lines(self) -> int:
        return len(self.by_place)


def _read_sheet(choice: WorkbookChoice, sheet: KnowledgeSheet, taken: _Taken, notes: list[str]) -> None:
    notes += [f"{sheet.where}: no column for {name}" for name in FIELDS if name not in sheet.columns]
    before = taken.num_lines
    left = None if choice.max_rows is None else max(0, choice.max_rows - before)
    for line in usable_lines(choice, sheet, notes, left):
        row = row_of(line.cells, f"{sheet.where}!{sheet.cell(line.number, 'Q')}")
        first = taken.first_by_id.get(row.row_id)
        place = (sheet.name, line.number)
        if first is not None and first.revision == row.revision:
            notes.append(f"{row.source}: the same question and answer as {first.source}; kept once")
            taken.by_place[place] = first
            continue
        if first is not None:
            # Both answers are knowledge; the id of the second must differ and must not depend on row order.
            row = row_of(line.cells, row.source, row_id=f"{row.row_id}-{row.revision[:4]}")
            notes.append(f"{row.source}: the same question as {first.source} with another answer; both kept")
        known = taken.first_by_id.setdefault(row.row_id, row)
        taken.by_place[place] = known
        if known is row:
            taken.rows.append(row)
        else:
            notes.append(f"{row.source}: the same question and answer as {known.source}; kept once")
    if taken.num_lines == before and left != 0:
        waiting = next((note for note in notes if "await review" in note), "")
        raise InputError(
            waiting
            or f"{choice.path}: sheet {sheet.name!r} has a header and no rows below it; add rows or pass --sheet"
        )


def usable_lines(
    choice: WorkbookChoice, sheet: KnowledgeSheet, notes: list[str], max_lines: int | None = None
) -> Iterator[Line]:
    """Yield the lines with a Q and an A, `max_lines` at most; notes are added when the last has been taken.

    Raises:
        InputError: at the end, naming the cells, if Q or A is blank in a line and `choice.skip_empty` is not set.
    """
    blanks: list[str] = []
    hidden: list[int] = []
    unapproved: list[int] = []
    num_taken = 0
    for line in sheet.lines():
        if max_lines is not None and num_taken >= max_lines:
            break
        if not line.approved:
            unapproved.append(line.number)
            continue
        cells = line.cells
        if not cells["Q"].strip() or not cells["A"].strip():
            if not any(text and not text.isspace() for text in cells.values()) and not line.marks:
                continue
            blanks += [_blank(sheet, line, name) for name in REQUIRED if not cells[name].strip()]
            continue
        if line.hidden:
            hidden.append(line.number)
        num_taken += 1
        yield line
    if hidden:
        notes.append(f"{sheet.where}: {len(hidden)} hidden rows were read like the others: {_few(hidden)}")
    if unapproved:
        notes.append(
            f"{sheet.where}: {len(unapproved)} rows await review and were left out: {_few(unapproved)}; "
            f"write {APPROVED[0]} in column 状态 to take one"
        )
    if not blanks:
        return
    more = f" and {len(blanks) - _SHOWN} more" if len(blanks) > _SHOWN else ""
    shown = ", ".join(blanks[:_SHOWN]) + more
    if not choice.skip_empty:
        raise InputError(
            f"{choice.path}: {shown}: fill the cell, or pass --skip-empty to leave such rows out"
        )
    notes.append(f"{sheet.where}: left out rows with {shown}")


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_SHOWN])) + (" ..." if len(numbers) > _SHOWN else "")


def _blank(sheet: KnowledgeSheet, line: Line, name: str) -> str:
    mark = line.marks.get(name)
    if mark is not None and not mark.cached:
        why = f"{name!r} is a formula without a stored value; open the workbook in Excel and save it"
    else:
        why = f"empty {name!r}"
    return f"{sheet.name}!{sheet.cell(line.number, name)} ({why})"


def row_of(value: Mapping[str, str], source: str, row_id: str | None = None) -> Row:
    """Return the row of a line's cells, with its id unless another is given."""
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
