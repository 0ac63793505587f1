from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from data.cells import MAX_CELL_CHARS, literal_csv, set_literal, starts_a_formula


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x","y")'])
def test_what_looks_like_a_formula_stays_text(tmp_path: Path, text: str) -> None:
    book = Workbook()
    set_literal(book.active["A1"], text)
    book.save(tmp_path / "k.xlsx")
    cell = load_workbook(tmp_path / "k.xlsx").active["A1"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", True)
    assert starts_a_formula(text)
    assert literal_csv(text) == f"'{text}"


def test_ordinary_text_is_left_alone() -> None:
    book = Workbook()
    set_literal(book.active["A1"], "每日 1-2 次")
    assert (book.active["A1"].value, book.active["A1"].quotePrefix) == ("每日 1-2 次", False)
    assert literal_csv("a=b") == "a=b"


def test_a_text_longer_than_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 32767"):
        set_literal(Workbook().active["A1"], "a" * (MAX_CELL_CHARS + 1))
