"""The sheets of a workbook that hold questions for evaluation: paraphrases of rows, and what no row answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from data.errors import InputError
from data.knowledge_sheet import WorkbookChoice
from data.records import HeldOutQuestion, Row, normalised
from data.sheets import Sheet, SheetFile


def read_paraphrases(
    choice: WorkbookChoice,
    file: SheetFile,
    by_place: Mapping[tuple[str, int], Row],
    knowledge_sheet: str,
    *,
    partly: bool,
) -> list[HeldOutQuestion]:
    """Return the questions of the sheet of paraphrases; none where there is no such sheet.

    Its column `row` holds the number of a row of `knowledge_sheet`, or SHEET!NUMBER. `partly`: rows were left out, so
    that a number may name one of those.

    Raises:
        InputError: a column is missing, or a number names no row.
    """
    questions = []
    for where, cells in _rows(choice, file, choice.paraphrases_sheet, ("row", "question")):
        sheet, _, number = cells["row"].rpartition("!")
        if not number.isdecimal():
            raise InputError(
                f"{where}: 'row' is {cells['row']!r}; it must be the number of a row of the knowledge sheet"
            )
        row = by_place.get((sheet or knowledge_sheet, int(number)))
        if row is not None:
            questions.append(HeldOutQuestion(cells["question"], row.row_id, row.answer, where))
        elif not partly:
            raise InputError(
                f"{where}: 'row' names row {cells['row']}, which holds no question; correct the number"
            )
    return questions


def read_unanswerable(choice: WorkbookChoice, file: SheetFile) -> list[HeldOutQuestion]:
    """Return the questions of the sheet of unanswerable ones; none where there is no such sheet.

    Raises:
        InputError: the column `question` is missing.
    """
    rows = _rows(choice, file, choice.unanswerable_sheet, ("question",))
    return [HeldOutQuestion(cells["question"], "", "", where) for where, cells in rows]


def _rows(
    choice: WorkbookChoice, file: SheetFile, sheet_name: str, names: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (where, cells by name) of the rows of an evaluation sheet that are not blank."""
    sheet: Sheet | None = next((item for item in file.sheets if item.name == sheet_name), None)
    if sheet is None:
        return
    places: dict[str, int] | None = None
    for row in sheet.rows():
        if not any(text.strip() for text in row.texts):
            continue
        if places is None:
            places = {normalised(text): place for place, text in enumerate(row.texts)}
            for name in names:
                if name not in places:
                    raise InputError(
                        f"{choice.path}: sheet {sheet_name!r} has no column {name!r}; "
                        f"headers: {', '.join(row.texts)}"
                    )
            continue
        cells = {
            name: row.texts[places[name]].strip() if places[name] < len(row.texts) else "" for name in names
        }
        yield f"{choice.path.name}#{sheet_name}!A{row.number}", cells
