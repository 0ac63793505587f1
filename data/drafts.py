"""Draft rows for people to fill in, as a sheet that the workbook's reader understands once they have answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.artefacts import partial_file

HEADERS = ("info_1", "info_2", "Q", "A", "状态", "次数", "问法", "最近的条目", "最后提问")
STATUS = "待审"
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


def write_drafts(path: Path, drafts: Sequence[Draft], sheet: str = "待审") -> None:
    """Write an .xlsx with a row a draft; the answer is blank and the status 待审. Atomic."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Alignment, Font

    book = Workbook()
    page = book.active
    assert page is not None, "a new workbook has a sheet"
    page.title = sheet
    page.append(HEADERS)
    for number, draft in enumerate(drafts, start=2):
        wordings = "\n".join(draft.wordings)
        values = (
            draft.info_1, draft.info_2, draft.question, "", STATUS, draft.num_asked, wordings, draft.nearest,
            draft.last_asked,
        )  # fmt: skip
        for column, value in enumerate(values, start=1):
            cell = page.cell(number, column)
            if isinstance(value, str):
                cell.value = ILLEGAL_CHARACTERS_RE.sub(" ", value)[:_MOST_CHARACTERS]
                # What a stranger typed is text, also where it begins like a formula.
                cell.data_type = "s"
            else:
                cell.value = value
    for letter, width in zip("ABCDEFGHI", _WIDTHS, strict=True):
        page.column_dimensions[letter].width = width
    for cells in page.iter_rows():
        for cell in cells:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    for cell in page[1]:
        cell.font = Font(bold=True)
    page.freeze_panes = "A2"
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path) as partial:
        book.save(partial)
