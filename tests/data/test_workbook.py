from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from data.errors import InputError
from data.workbook import Knowledge, WorkbookChoice, read_workbook

HEADER = ["info_1", "info_2", "Q", "A"]


def make_workbook(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def read(path: Path, **choice: object) -> Knowledge:
    return read_workbook(WorkbookChoice(path, **choice))  # type: ignore[arg-type]


def test_reads_rows_with_their_cells_and_evaluation_sheets(tmp_path: Path) -> None:
    path = make_workbook(
        tmp_path / "k.xlsx",
        {
            "知识": [
                HEADER,
                ["高血压", "饮食", "能吃咸菜吗", "少吃。"],
                ["痛风", "用药", "别嘌醇怎么吃", "遵医嘱。"],
            ],
            "paraphrases": [["row", "question"], [3, "痛风吃啥药"]],
            "unanswerable": [["question"], ["挂号费多少"]],
        },
    )
    knowledge = read(path)
    assert [row.source for row in knowledge.rows] == ["k.xlsx#知识!C2", "k.xlsx#知识!C3"]
    assert knowledge.rows[0].title == "高血压 · 饮食 · 能吃咸菜吗"
    assert knowledge.paraphrases[0].row_id == knowledge.rows[1].row_id
    assert knowledge.paraphrases[0].answer == "遵医嘱。"
    assert [item.question for item in knowledge.unanswerable] == ["挂号费多少"]


def test_row_id_stays_when_the_answer_or_the_spacing_changes(tmp_path: Path) -> None:
    old = read(make_workbook(tmp_path / "a.xlsx", {"S": [HEADER, ["a", "b", "Ｑ １", "old"]]})).rows[0]
    new = read(make_workbook(tmp_path / "b.xlsx", {"S": [HEADER, ["a", "b ", "q  1", "new"]]})).rows[0]
    assert old.row_id == new.row_id
    assert old.revision != new.revision


@pytest.mark.parametrize(
    "header",
    [
        ["类别", "方面", "问题", "答案"],
        ["Category", "Aspect", "Question", "Answer"],
        ["Focus (Drug)", "Question Type", "Question", "Answer"],
        ["疾病（名称）", "方面", "问题", "答案"],
    ],
)
def test_recognises_common_headers_below_a_title_row(tmp_path: Path, header: list[str]) -> None:
    rows = [["Our knowledge"], [], header, ["c", "t", "q", "a"]]
    (row,) = read(make_workbook(tmp_path / "k.xlsx", {"S": rows})).rows
    assert (row.info_1, row.info_2, row.question, row.answer) == ("c", "t", "q", "a")
    assert row.source == "k.xlsx#S!C4"


def test_map_wins_over_recognition(tmp_path: Path) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [["Question", "Q2", "Answer"], ["one", "two", "a"]]})
    assert read(path, mapping={"Q": "Q2"}).rows[0].question == "two"


def test_numbers_and_dates_read_as_people_see_them(tmp_path: Path) -> None:
    import datetime

    path = make_workbook(tmp_path / "k.xlsx", {"S": [["Q", "A"], [12.0, datetime.date(2026, 1, 2)]]})
    (row,) = read(path).rows
    assert (row.question, row.answer) == ("12", "2026-01-02")


def test_a_repeated_row_is_kept_once_and_a_conflicting_answer_twice(tmp_path: Path) -> None:
    rows = [["Q", "A"], ["q", "a"], ["q", "a"], ["q", "b"]]
    knowledge = read(make_workbook(tmp_path / "k.xlsx", {"S": rows}))
    assert [row.answer for row in knowledge.rows] == ["a", "b"]
    assert len({row.row_id for row in knowledge.rows}) == 2
    assert any("A3" in note for note in knowledge.notes)
    assert any("another answer" in note and "A4" in note for note in knowledge.notes)


@pytest.mark.parametrize(
    ("rows", "choice", "message"),
    [
        ([["Q", "A"], ["q", "a"], ["q2", None]], {}, r"S!B3 \(empty 'A'\).*--skip-empty"),
        ([["Q", "A"], [" ", "a"]], {}, r"S!A2 \(empty 'Q'\)"),
        (
            [["Title", "Text"], ["one", "two"]],
            {},
            r"no column recognised as Q or A; headers: 'Title', 'Text'.*--map Q=",
        ),
        (
            [["问题", "提问", "答案"], ["q", "p", "a"]],
            {},
            r"'问题' and '提问' could each be Q.*--map 'Q=问题'",
        ),
        ([["Q", "A"], ["q", "a"]], {"mapping": {"Q": "Nope"}}, r"--map Q=Nope: no column.*headers: 'Q', 'A'"),
        ([["Q", "A"]], {}, r"no rows below it"),
        ([], {}, r"the sheet is empty"),
        ([["Q", "A"], ["q", "a"]], {"sheet": "T"}, r"no sheet 'T'; sheets: 'S'"),
    ],
)
def test_bad_sheets_are_named(
    tmp_path: Path, rows: list[list[object]], choice: dict[str, object], message: str
) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": rows})
    with pytest.raises(InputError, match=message) as caught:
        read(path, **choice)
    assert "\n" not in str(caught.value)


def test_skip_empty_leaves_the_row_out_and_says_so(tmp_path: Path) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [["Q", "A"], ["q", None], ["q2", "a"]]})
    knowledge = read(path, skip_empty=True)
    assert [row.question for row in knowledge.rows] == ["q2"]
    assert any("B2" in note for note in knowledge.notes)


def test_a_paraphrase_of_no_row_is_named(tmp_path: Path) -> None:
    sheets: dict[str, list[list[object]]] = {
        "S": [["Q", "A"], ["q", "a"]],
        "paraphrases": [["row", "question"], [9, "?"]],
    }
    with pytest.raises(InputError, match=r"paraphrases!A2.*row 9"):
        read(make_workbook(tmp_path / "k.xlsx", sheets))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Q,A\nq,a\n", "not an Excel workbook"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 64, r"not a readable \.xls workbook"),
        (b"", "not an Excel workbook"),
    ],
)
def test_files_that_are_no_workbook(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "k.xlsx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_zip_that_is_no_workbook(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "k.xlsx"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(InputError, match="not an Excel workbook"):
        read(path)


_CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30
).filter(lambda text: text.strip() and not text.startswith("=") and "_x" not in text)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(_CELL, _CELL), min_size=1, max_size=8, unique_by=lambda pair: pair[0].casefold().split()[0]
    )
)
def test_any_text_survives_the_workbook(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [["Q", "A"], *map(list, pairs)]})
    knowledge = read(path)
    read_back = [(row.question, row.answer) for row in knowledge.rows]
    assert set(read_back) <= set(pairs)
    assert len(read_back) + sum("kept once" in note for note in knowledge.notes) == len(pairs)
