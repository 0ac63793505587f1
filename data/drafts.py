"""Draft rows for people to fill in, as a sheet that the workbook's reader understands once they have answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.artefacts import partial_file

HEADERS = ("info_1", "info_2", "Q", "A", "状态", "次数", "问法", "最近的条目", "最后提问")
STATUS, APPROVED, REJECTED = "待审", "通过", "不用"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_WIDTHS = (14, 14, 48, 48, 8, 8, 60, 48, 20)
_MOST_CHARACTERS = 32_000


@dataclass(frozen=True)
class Draft:
    """A question that needs an answer: how often it was asked, in which wordings, and the nearest row there is."""

    info_1: str
    info_2: str
    question: str
    num_asked: int
    wordings: Sequence[str]
    nearest: str
    last_asked: str


def write_drafts(path: Path, drafts: Sequence[Draft], sheet: str = STATUS) -> None:
    """Write an .xlsx with a row a draft; the answer is blank and the status 待审. Atomic."""
    rows = (
        (
            draft.info_1, draft.info_2, draft.question, "", STATUS, draft.num_asked, "\n".join(draft.wordings),
            draft.nearest, draft.last_asked,
        )
        for draft in drafts
    )  # fmt: skip
    write_review_sheet(path, HEADERS, _WIDTHS, rows, sheet)


def write_review_sheet(
    path: Path,
    headers: Sequence[str],
    widths: Sequence[int],
    rows: Iterable[Sequence[str | float]],
    sheet: str = STATUS,
) -> None:
    """Write an .xlsx of one sheet for a person to review; texts stay texts, whatever they begin with. Atomic."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    book = Workbook()
    page = book.active
    assert page is not None, "a new workbook has a sheet"
    page.title = sheet
    page.append(list(headers))
    for number, values in enumerate(rows, start=2):
        for column, value in enumerate(values, start=1):
            cell = page.cell(number, column)
            if isinstance(value, str):
                cell.value = ILLEGAL_CHARACTERS_RE.sub(" ", value)[:_MOST_CHARACTERS]
                # What a stranger typed is text, also where it begins like a formula, and stays text when edited.
                cell.data_type = "s"
                cell.quotePrefix = value.startswith(_FORMULA_STARTS)
            else:
                cell.value = value
    for number, width in enumerate(widths, start=1):
        page.column_dimensions[get_column_letter(number)].width = width
    for cells in page.iter_rows():
        for cell in cells:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    for cell in page[1]:
        cell.font = Font(bold=True)
    if page.max_row > 1:
        choices = DataValidation("list", formula1=f'"{STATUS},{APPROVED},{REJECTED}"', allow_blank=True)
        letter = get_column_letter(headers.index("状态") + 1)
        choices.add(f"{letter}2:{letter}{page.max_row}")
        # A proposal; whoever writes `approved` may.
        choices.showErrorMessage = False
        page.add_data_validation(choices)
    page.freeze_panes = "A2"
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path) as partial:
        book.save(partial)
