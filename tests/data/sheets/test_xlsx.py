from __future__ import annotations

import datetime
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

from data.errors import InputError
from data.sheets import open_workbook
from tests.data.sheets.packages import package, read_cells, texts


def test_numbers_and_dates_are_shown_through_their_format(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    shown = {
        "A1": (1234.5, "#,##0.00", "1,234.50"),
        "A2": (0.125, "0.0%", "12.5%"),
        "A3": (7, "000", "007"),
        "A4": (datetime.datetime(2026, 11, 24, 9, 5), "yyyy/m/d h:mm", "2026/11/24 9:05"),
        "A5": (datetime.date(2026, 1, 2), 'yyyy"年"m"月"d"日"', "2026年1月2日"),
        "A6": (datetime.timedelta(hours=30, minutes=5), "[h]:mm", "30:05"),
        "A7": (0.1 + 0.2, "General", "0.3"),
        "A8": (12.0, "General", "12"),
        "A9": (-5, "0;(0)", "(5)"),
        "A10": (True, "General", "TRUE"),
        "A11": (37.5, '0.0"℃"', "37.5℃"),
        "A12": (123456789012, "General", "123456789012"),
    }
    for name, (value, code, _) in shown.items():
        sheet[name] = value
        sheet[name].number_format = code
    book.save(tmp_path / "k.xlsx")
    assert texts(tmp_path / "k.xlsx") == {name: text for name, (_, _, text) in shown.items()}


def test_rich_text_inline_text_and_reading_aids(tmp_path: Path) -> None:
    shared = (
        "<si><r><t>糖尿</t></r><r><rPr><b/></rPr><t>病</t></r><rPh sb='0' eb='1'><t>とうにょう</t></rPh></si>"
        '<si><t xml:space="preserve"> a&amp;b </t></si><si/><si><t>line_x000D_\nnext &#x4E2D;</t></si>'
    )
    sheet = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>2</v></c>'
        '<c r="D1" t="s"><v>3</v></c><c r="E1" t="inlineStr"><is><r><t>in</t></r><r><t>line</t></r></is></c></row>'
    )
    assert texts(package(tmp_path / "k.xlsx", sheet, shared=shared)) == {
        "A1": "糖尿病",
        "B1": " a&b ",
        "D1": "line\r\nnext 中",
        "E1": "inline",
    }


def test_formulas_are_their_stored_value_and_one_without_is_told(tmp_path: Path) -> None:
    sheet = (
        '<row r="2"><c r="A2" t="str"><f>"a"&amp;"b"</f><v>ab</v></c><c r="B2"><f>1+1</f><v>2</v></c>'
        '<c r="C2"><f>NOW()</f></c><c r="D2" t="e"><f>1/0</f><v>#DIV/0!</v></c></row>'
    )
    cells = read_cells(package(tmp_path / "k.xlsx", sheet))
    assert {name: cell.text for name, cell in cells.items()} == {
        "A2": "ab",
        "B2": "2",
        "C2": "",
        "D2": "#DIV/0!",
    }
    assert all(cell.mark.formula for cell in cells.values())
    assert [name for name, cell in cells.items() if not cell.mark.cached] == ["C2"]
    assert cells["D2"].mark.kind == "error"


def test_merged_cells_are_filled_and_hidden_rows_and_sheets_told(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    for row in [["高血压", "饮食", "q1", "a1"], [None, None, "q2", "a2"], [], ["x", None, "q3", "a3"]]:
        sheet.append(row)
    sheet.merge_cells("A1:A3")
    sheet.merge_cells("A4:B4")
    sheet.row_dimensions[2].hidden = True
    hidden = book.create_sheet("secret")
    hidden.sheet_state = "veryHidden"
    book.save(tmp_path / "k.xlsx")
    with open_workbook(tmp_path / "k.xlsx") as opened:
        rows = list(opened.sheets[0].rows())
        assert [sheet.state for sheet in opened.sheets] == ["visible", "very hidden"]
    assert [(row.number, row.texts, row.hidden) for row in rows] == [
        (1, ["高血压", "饮食", "q1", "a1"], False),
        (2, ["高血压", "", "q2", "a2"], True),
        (4, ["x", "x", "q3", "a3"], False),
    ]
    assert rows[1].marks[0].merged_from == "A1"


def test_rows_and_cells_without_names_count_on(tmp_path: Path) -> None:
    first = "<row><c t='inlineStr'><is><t>a</t></is></c><c><v>1</v></c></row>"
    sheet = first + "<row r='5'/><row><c r='C6'><v>2</v></c></row>"
    assert texts(package(tmp_path / "k.xlsx", sheet)) == {"A1": "a", "B1": "1", "C6": "2"}


def test_prefixes_comments_and_other_encodings_are_xml_too(tmp_path: Path) -> None:
    body = '<x:row r="1"><!-- not knowledge --><x:c r="A1" t="inlineStr"><x:is><x:t>血压</x:t></x:is></x:c></x:row>'
    sheet = (
        '<x:worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        f"<x:sheetData>{body}</x:sheetData></x:worksheet>"
    )
    assert texts(package(tmp_path / "a.xlsx", sheet)) == {"A1": "血压"}
    utf16 = ('<?xml version="1.0" encoding="UTF-16"?>' + sheet).encode("utf-16")
    assert texts(package(tmp_path / "b.xlsx", utf16)) == {"A1": "血压"}


def test_a_row_like_the_last_in_shape_only_is_read_for_itself(tmp_path: Path) -> None:
    shared = "".join(f"<si><t>t{number}</t></si>" for number in range(10))
    sheet = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="A2" t="s"><v>2</v></c><c r="C2" t="s"><v>3</v></c></row>'
        '<row r="3"><c r="A3" t="s"><v>4</v></c><c r="C3"><v>5</v></c></row>'
        '<row r="4"><c r="B4" t="s"><v>6</v></c><c r="C4" t="s"><v>7</v></c></row>'
        '<row r="5"><c r="A5" t="s"><v>8</v></c><c r="C5" t="s"><v>9</v></c></row>'
    )
    assert texts(package(tmp_path / "k.xlsx", sheet, shared=shared)) == {
        "A1": "t0",
        "C1": "t1",
        "A2": "t2",
        "C2": "t3",
        "A3": "t4",
        "C3": "5",
        "B4": "t6",
        "C4": "t7",
        "A5": "t8",
        "C5": "t9",
    }
    wrong = sheet.replace("<v>3</v>", "<v>10</v>")
    with pytest.raises(InputError, match=r"C2"):
        texts(package(tmp_path / "w.xlsx", wrong, shared=shared))


def test_many_shared_texts_are_read_from_disk_as_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Workbook()
    for number in range(1500):
        book.active.append([f"c{number % 7}", f"问题{number}", f"答案{1499 - number}", f"问题{number // 2}"])
    path = tmp_path / "k.xlsx"
    book.save(path)
    in_memory = texts(path)
    monkeypatch.setattr("data.sheets.shared_strings._IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("data.sheets.shared_strings._GROUPS_KEPT", 3)
    assert texts(path) == in_memory
    assert in_memory["C1500"] == "答案0"


@pytest.mark.parametrize("block", [300, 4000, 1 << 20])
def test_texts_of_all_forms_are_read_from_disk_as_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    forms = (
        "<si><t>问题{}</t></si>",
        "<si><t xml:space='preserve'> 甲{} </t></si>",
        '<si><t xml:space="preserve"> 乙{} </t></si>',
        "<si><r><t>丙</t></r><r><rPr/><t>{}</t></r></si>",
        "<si><t>&lt;丁{}&gt; _x000D_ _x005F_x0041_</t></si>",
        "<si><t>戊\r\n{}\r</t></si>\n",
        "<si/><si><t>{}</t></si>",
    )
    # Long runs of the plain form between the others, so that groups are kept either way.
    shared = "".join(forms[number % 7 if number % 900 < 40 else 0].format(number) for number in range(3000))
    num_texts = shared.count("</si>") + shared.count("<si/>")
    cells = (
        f"<row r='{row}'><c r='A{row}' t='s'><v>{number}</v></c></row>"
        for row, number in enumerate([*range(num_texts), *range(num_texts - 1, 0, -61)], start=1)
    )
    path = package(tmp_path / "k.xlsx", "".join(cells), shared=shared)
    in_memory = texts(path)
    assert {"丙3", "<丁4> \r _x0041_", "戊\n5\n", "问题2999", " 甲1 "} <= set(in_memory.values())
    monkeypatch.setattr("data.sheets.shared_strings._IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("data.sheets.archive._BLOCK_BYTES", block)
    assert texts(path) == in_memory


def test_a_long_row_may_be_cut_within_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = "".join(f"<c r='{letter}1' t='inlineStr'><is><t>{'盐' * 900}</t></is></c>" for letter in "ABC")
    path = package(tmp_path / "k.xlsx", f"<row r='1'>{cells}</row>")
    monkeypatch.setattr("data.sheets.limits.MAX_ROW_CHARS", 3000)
    for block in (1000, 1001, 1002):
        monkeypatch.setattr("data.sheets.archive._BLOCK_BYTES", block)
        assert texts(path) == dict.fromkeys(("A1", "B1", "C1"), "盐" * 900)
    monkeypatch.setattr("data.sheets.limits.MAX_ROW_CHARS", 2000)
    with pytest.raises(InputError, match="characters"):
        texts(path)


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_VALUE = st.one_of(st.none(), _TEXT, st.integers(-(10**9), 10**9), st.booleans())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(_VALUE, max_size=5), max_size=8))
def test_the_quick_way_and_expats_agree_with_openpyxl(tmp_path: Path, table: list[list[object]]) -> None:
    book = Workbook()
    for values in table:
        book.active.append([value if value != "" else None for value in values])
        for cell in book.active[book.active.max_row]:
            if isinstance(cell.value, str):
                cell.data_type = "s"
    path = tmp_path / "k.xlsx"
    book.save(path)
    expected = {}
    for row in load_workbook(path).active.iter_rows():
        for cell in row:
            if cell.value is not None and cell.value != "":
                expected[cell.coordinate] = (
                    str(cell.value).upper() if isinstance(cell.value, bool) else str(cell.value)
                )
    quick = texts(path)
    assert quick == expected
    by_expat = tmp_path / "e.xlsx"
    import zipfile

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(by_expat, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            for place in (b"<sheetData>", b"<sst "):
                # A processing instruction: no longer plain, so that expat reads on from there.
                content = content.replace(
                    place, b"<?x y?>" + place if place == b"<sst " else place + b"<?x y?>", 1
                )
            new.writestr(item.filename, content)
    assert texts(by_expat) == quick


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("<row r='1'><c r='A1'><v>1</v></c>", "ends early|damaged"),
        ("<row r='1'><c r='1A'><v>1</v></c></row>", "a cell is called"),
        ("<row r='1'><c r='A1' t='s'><v>7</v></c></row>", "A1"),
        ("<row r='1048577'><c r='A1048577'><v>7</v></c></row>", "1,048,576"),
        ("<row r='1'><c r='XFE1'><v>7</v></c></row>", "16,384"),
        (f"<row r='1'><c r='A1' t='inlineStr'><is><t>{'x' * 32_768}</t></is></c></row>", "A1.*32,76"),
        ("</row><row r='1'></row>", "damaged"),
    ],
)
def test_a_damaged_sheet_is_an_error_that_names_the_place(tmp_path: Path, sheet: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        texts(package(tmp_path / "k.xlsx", sheet, shared="<si><t>one</t></si>"))


def test_text_is_what_openpyxl_reads_for_rich_text(tmp_path: Path) -> None:
    book = Workbook()
    book.active["A1"] = CellRichText("每日", TextBlock(InlineFont(b=True), "三次"), escape("<饭后>"))
    book.save(tmp_path / "k.xlsx")
    assert texts(tmp_path / "k.xlsx")["A1"] == "每日三次" + escape("<饭后>")
