from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from data.conversations import SEED_SYSTEM_PROMPT
from data.convert import convert_workbook
from data.errors import InputError
from data.knowledge_sheet import WorkbookChoice
from data.prepare import prepare_dataset
from data.records import Row, read_records
from data.settings import PrepareSection, WorkbookSection
from tests.data.test_prepare import seed_script
from tests.data.test_workbook import HEADER, make_workbook


def test_json_array_is_the_seed_scripts_file_also_where_a_row_stands_twice(tmp_path: Path) -> None:
    rows = [["高血压", "饮食", "能吃盐吗", '少吃"盐"\\\n\t每天<5克&'], ["a", "b", "q", "\u2028答\x7f"]]
    path = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows, *rows]})
    seed_script(path, tmp_path / "seed.json")
    done = convert_workbook(
        WorkbookChoice(path), tmp_path / "ours.json", "json-array", ("seed",), SEED_SYSTEM_PROMPT
    )
    assert done.num_rows == 4
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "seed.json").read_bytes()
    prepare_dataset(tmp_path / "d", WorkbookSection(file=path), PrepareSection(format="json-array"))
    assert (tmp_path / "d" / "train.json").read_bytes() == (tmp_path / "seed.json").read_bytes()


def test_conversations_and_messages_are_those_of_prepare(tmp_path: Path) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, ["a", "b", "q", "x"], [None, None, "q2", "y"]]})
    prepare_dataset(
        tmp_path / "d", WorkbookSection(file=path), PrepareSection(format="messages", own_questions=0)
    )
    for format_name, name in (("conversation", "train.jsonl"), ("messages", "train.messages.jsonl")):
        out = tmp_path / name
        convert_workbook(WorkbookChoice(path), out, format_name, ("seed", "plain"), SEED_SYSTEM_PROMPT)
        made = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(made) == 3
        assert made[-1]["row_id"] == made[-1]["row_id"]
        turns = made[0].get("messages") or made[0]["conversation"]
        assert "关于`a`的`b`问题,q?" in json.dumps(turns, ensure_ascii=False)


def test_nothing_is_written_when_a_cell_is_blank(tmp_path: Path) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, ["a", "b", "q", "x"], ["a", "b", "q2", None]]})
    with pytest.raises(InputError, match=r"S!D3"):
        convert_workbook(WorkbookChoice(path), tmp_path / "out.json", "json-array", ("seed",), "")
    assert [item.name for item in tmp_path.iterdir()] == ["k.xlsx"]
    done = convert_workbook(
        WorkbookChoice(path, skip_empty=True), tmp_path / "out.json", "json-array", ("seed",), ""
    )
    assert done.num_rows == 1


_CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\n\t"), max_size=40
)
_FILLED = _CELL.filter(lambda text: bool(text.strip()))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL, _FILLED, _FILLED), min_size=1, max_size=8))
def test_any_table_of_strings_survives_workbook_rows_jsonl_rows(
    tmp_path: Path, table: list[tuple[str, str, str, str]]
) -> None:
    book = Workbook()
    book.active.append(["info_1", "info_2", "Q", "A"])
    for number, values in enumerate(table, start=2):
        for column, value in enumerate(values, start=1):
            if value:
                cell = book.active.cell(number, column)
                # As text whatever it begins with; what looks like Excel's escape is escaped, as Excel does.
                cell.value = value.replace("_x", "_x005F_x")
                cell.data_type = "s"
    path = tmp_path / "k.xlsx"
    book.save(path)
    convert_workbook(WorkbookChoice(path), tmp_path / "rows.jsonl", "rows", ("seed",), "")
    read_back = read_records(tmp_path / "rows.jsonl", Row)
    assert [(row.info_1, row.info_2, row.question, row.answer) for row in read_back] == table
    assert [row.source for row in read_back] == [f"k.xlsx#Sheet!C{n}" for n in range(2, len(table) + 2)]
