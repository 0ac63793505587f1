from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.comments import Comment
from openpyxl.styles import Font, PatternFill

from data.errors import InputError, UsageError
from data.lint.lint import LintReport, lint_table
from data.lint.table import read_table
from data.lint.write_back import lost_parts, write_back
from data.workbook import WorkbookChoice, read_workbook
from tests.data.lint.sheets import PLANTED, clean_sheet, faulty_sheet


def linted(path: Path) -> LintReport:
    return lint_table(read_table(WorkbookChoice(path)))


def values(path: Path, **options: Any) -> dict[str, dict[str, object]]:
    book = load_workbook(path, **options)
    return {
        sheet.title: {
            cell.coordinate: cell.value for row in sheet.iter_rows() for cell in row if cell.value is not None
        }
        for sheet in book.worksheets
    }


@pytest.fixture
def own_book(tmp_path: Path) -> Path:
    """A workbook as a person makes one: styles, comments, formulas with values, rich text, merged cells."""
    book = Workbook()
    sheet = book.active
    sheet.title = "it's a sheet"
    for row in [
        ["info_1", "info_2", "Q", "A"],
        ["a", "b", "how are refunds paid", '=CONCATENATE("by ","card & <cash>")'],
        [None, "b", "how long is the delivery", "n/a"],
        ["c", "d", "=1+1", "two, as anybody can count"],
        ["merged", None, "where is the shop", "at the corner of the street"],
    ]:
        sheet.append(row)
    sheet["D3"].fill = PatternFill("solid", fgColor="FF00FF00")
    sheet["D3"].font = Font(bold=True, italic=True, name="Georgia")
    sheet["D3"].number_format = "0.00"
    sheet["D3"].comment = Comment("ask Li first", "Wang")
    sheet["C5"] = CellRichText("where is ", TextBlock(InlineFont(b=True), "the shop"))
    sheet.merge_cells("A5:B5")
    sheet.column_dimensions["C"].width = 41
    sheet.freeze_panes = "A2"
    other = book.create_sheet("GroundTune Lint")
    other["A1"] = "mine"
    path = tmp_path / "own.xlsx"
    book.save(path)
    # What Excel would have stored as the formulas' values.
    rewritten = tmp_path / "rewritten.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(rewritten, "w") as new:
        for item in old.infolist():
            content = old.read(item).decode("utf-8", "surrogateescape")
            if item.filename == "xl/worksheets/sheet1.xml":
                content = content.replace('<c r="D2"><f>', '<c r="D2" t="str"><f>')
                content = content.replace("<v></v>", "<v />")  # as openpyxl writes it where lxml is installed
                content = content.replace("</f><v />", "</f><v>by card &amp; &lt;cash&gt;</v>", 1)
                content = content.replace("</f><v />", "</f><v>2</v>", 1)
            new.writestr(item, content.encode("utf-8", "surrogateescape"))
    rewritten.replace(path)
    return path


def test_every_cell_of_the_original_is_in_the_copy(tmp_path: Path, own_book: Path) -> None:
    before = own_book.read_bytes()
    out = tmp_path / "out.xlsx"
    summary = write_back(linted(own_book), out)
    assert own_book.read_bytes() == before
    for options in ({}, {"data_only": True}, {"rich_text": True}):
        copied = values(out, **options)
        copied.pop(summary)
        assert copied == values(own_book, **options)
    assert values(out, data_only=True)["it's a sheet"]["D2"] == "by card & <cash>"
    assert read_workbook(WorkbookChoice(out)).rows[0].answer == "by card & <cash>"
    assert not list(tmp_path.glob(".*"))


def test_findings_are_colours_and_comments_and_styles_stay(tmp_path: Path, own_book: Path) -> None:
    write_back(linted(own_book), tmp_path / "out.xlsx")
    old = load_workbook(own_book)["it's a sheet"]
    new = load_workbook(tmp_path / "out.xlsx")["it's a sheet"]
    cell = new["D3"]
    assert cell.fill.fgColor.rgb == "FFFFC7CE"
    assert (cell.font.b, cell.font.i, cell.font.name, cell.number_format) == (True, True, "Georgia", "0.00")
    assert cell.comment.text.startswith("ask Li first\n----\nGroundTune: D3 error: 'n/a' stands for no text")
    assert cell.comment.author == "Wang"
    assert new["A3"].comment.text.startswith("A3 warning: empty 'info_1'")
    # B5 shows the value of the merged range that it is in, so nothing is empty there.
    assert new["A5"].comment is None
    assert new["C2"].comment is None
    assert new["C2"].fill.fgColor.rgb == old["C2"].fill.fgColor.rgb
    assert (new.column_dimensions["C"].width, new.freeze_panes, str(new.merged_cells)) == (41, "A2", "A5:B5")


def test_the_summary_lists_every_finding_under_a_free_name_and_holds_no_formula(tmp_path: Path) -> None:
    path = faulty_sheet(tmp_path / "k.xlsx")
    book = load_workbook(path)
    book["知识"]["D18"] = "n/a"
    for number, start in enumerate(('=HYPERLINK("http://x")&', "+1+", "-1+", "@SUM(", "=cmd|' /C calc'!A0")):
        cell = book["知识"][f"D{19 + number}"]
        cell.value = start + "<br>，"
        cell.data_type = "s"
    book.create_sheet("Groundtune LINT")
    book.save(path)
    report = linted(path)
    out = tmp_path / "out.xlsx"
    assert write_back(report, out) == "groundtune lint 2"
    sheet = load_workbook(out)["groundtune lint 2"]
    rows = list(sheet.iter_rows(min_row=3, values_only=True))
    assert [row[0] for row in rows] == [item.cell for item in report.findings]
    assert {row[2] for row in rows} >= {"blank-answer", "mojibake", "markup"}
    for row in sheet.iter_rows():
        for cell in row:
            assert cell.data_type != "f"
            assert not str(cell.value or "").startswith(("=", "+", "-", "@"))
    assert sheet["A3"].hyperlink.location == f"'知识'!{report.findings[0].cell}"


def test_writing_twice_adds_a_second_summary(tmp_path: Path) -> None:
    path = faulty_sheet(tmp_path / "k.xlsx")
    write_back(linted(path), tmp_path / "one.xlsx")
    again = linted(tmp_path / "one.xlsx")
    assert {item.cell for item in again.findings} == set(PLANTED.values())
    assert write_back(again, tmp_path / "two.xlsx") == "groundtune lint 2"


def test_the_original_is_never_written_over(tmp_path: Path) -> None:
    path = clean_sheet(tmp_path / "k.xlsx")
    with pytest.raises(UsageError, match="that is the workbook itself"):
        write_back(linted(path), tmp_path / "." / "k.xlsx")
    with pytest.raises(UsageError, match=r"a file of the same kind"):
        write_back(linted(path), tmp_path / "k.csv")
    (tmp_path / "dir.xlsx").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_back(linted(path), tmp_path / "dir.xlsx")


def test_what_the_copy_will_not_have_is_named(tmp_path: Path) -> None:
    from openpyxl.chart import BarChart, Reference

    path = clean_sheet(tmp_path / "k.xlsx")
    assert lost_parts(path) == []
    book = load_workbook(path)
    chart = BarChart()
    chart.add_data(Reference(book.active, range_string="知识!A1:A3"))
    book.active.add_chart(chart, "F2")
    book.save(path)
    assert lost_parts(path) == ["charts"]


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_opens_the_copy_with_every_cell_as_it_was(tmp_path: Path, own_book: Path) -> None:
    for path in (faulty_sheet(tmp_path / "k.xlsx"), own_book):
        out = tmp_path / f"out-{path.name}"
        summary = write_back(linted(path), out)
        converted = through_libreoffice(out, tmp_path / "converted")
        shown = values(converted, data_only=True)
        assert len(shown.pop(summary)) > 7
        assert shown == values(through_libreoffice(path, tmp_path / "plain"), data_only=True)
        assert load_workbook(converted)[next(iter(shown))]["D3"].comment is not None


def through_libreoffice(path: Path, folder: Path) -> Path:
    """Open a workbook in LibreOffice and save it from there."""
    profile = f"-env:UserInstallation=file://{folder}/profile"
    argv = ["soffice", profile, "--headless", "--convert-to", "xlsx", "--outdir", str(folder), str(path)]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return folder / path.name
