from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import xlwt

from data.errors import InputError
from data.sheets import open_workbook
from data.workbook import WorkbookChoice, read_workbook
from tests.data.sheets.packages import read_cells, texts

LINES = [
    ["类别", "方面", "问题", "答案"],
    ["高血压", "饮食", "能吃盐吗，多少", '少吃"盐"，\n每天5克'],
    ["", "", "q2", "a2"],
]


def test_an_old_xls_reads_like_an_xlsx(tmp_path: Path) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("知识")
    date = xlwt.easyxf(num_format_str="yyyy-mm-dd")
    for number, values in enumerate(LINES):
        for column, value in enumerate(values):
            if value and (number, column) != (1, 0):
                sheet.write(number, column, value)
    sheet.write(3, 2, datetime.date(2026, 1, 2), date)
    sheet.write(3, 3, 12.0)
    sheet.write_merge(1, 2, 0, 0, "高血压")
    sheet.row(2).hidden = True
    hidden = book.add_sheet("藏")
    hidden.visibility = 1
    path = tmp_path / "k.xls"
    book.save(str(path))
    knowledge = read_workbook(WorkbookChoice(path))
    assert [(row.info_1, row.info_2, row.question, row.answer, row.source) for row in knowledge.rows] == [
        ("高血压", "饮食", "能吃盐吗，多少", '少吃"盐"，\n每天5克', "k.xls#知识!C2"),
        ("高血压", "", "q2", "a2", "k.xls#知识!C3"),
        ("", "", "2026-01-02", "12", "k.xls#知识!C4"),
    ]
    assert any("hidden rows" in note for note in knowledge.notes)
    assert any("'藏' is hidden" in note for note in knowledge.notes)
    assert read_cells(path)["C4"].mark.kind == "date"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_in_the_encodings_and_with_the_delimiters_that_excel_writes(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    import csv

    path = tmp_path / "表.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(LINES)
    with open_workbook(path) as book:
        (sheet,) = book.sheets
        assert (book.format, sheet.name) == ("csv", "表")
        assert [row.texts for row in sheet.rows()] == [LINES[0], LINES[1], LINES[2]]
    assert read_workbook(WorkbookChoice(path)).rows[0].source == "表.csv#表!C2"


def test_a_csv_with_a_quote_that_is_never_closed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text('Q,A\nq,"' + "a\n" * 600_000, encoding="utf-8")
    with pytest.raises(InputError, match="quote"):
        texts(path)


def test_a_csv_in_no_known_encoding_names_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_bytes(b"Q,A\nq,\xff\xff\x00\x81\n")
    with pytest.raises(InputError, match="UTF-8"):
        texts(path)
