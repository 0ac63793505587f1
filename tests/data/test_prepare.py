from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from data.conversations import SEED_SYSTEM_PROMPT
from data.errors import InputError
from data.grounded import drawn_rows
from data.learned import trained_rows
from data.prepare import prepare_dataset
from data.records import HeldOutQuestion, Row, read_records
from data.settings import PrepareSection, WorkbookSection
from data.workbook import row_of
from tests.data.test_workbook import HEADER, make_workbook

ROWS = [["高血压", "饮食", f"问题{n}", f"答案{n}。"] for n in range(20)]


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    return make_workbook(
        tmp_path / "k.xlsx", {"S": [HEADER, *ROWS], "paraphrases": [["row", "question"], [2, "怎么吃"]]}
    )


def seed_script(file: Path, output_file: Path) -> None:
    """The seed document's xlsx2jsonl.py, its two paths aside."""
    output_data = []
    for _, row in pandas.read_excel(file).iterrows():
        output_data.append(
            {
                "conversation": [
                    {
                        "system": "You are a professional, highly experienced doctor professor. You always provide "
                        "accurate, comprehensive, and detailed answers based on the patients' questions.",
                        "input": "关于`{}`的`{}`问题,{}?".format(row["info_1"], row["info_2"], row["Q"]),
                        "output": row["A"],
                    }
                ]
            }
        )
    with output_file.open("w", encoding="utf-8") as json_file:
        json.dump(output_data, json_file, indent=4, ensure_ascii=False)


def test_json_array_is_the_seed_scripts_file_byte_for_byte(tmp_path: Path, workbook: Path) -> None:
    prepare_dataset(tmp_path / "d", WorkbookSection(file=workbook), PrepareSection(format="json-array"))
    seed_script(workbook, tmp_path / "seed.json")
    assert (tmp_path / "d" / "train.json").read_bytes() == (tmp_path / "seed.json").read_bytes()


def test_rows_have_both_styles_and_evaluation_questions_stay_out_of_training(
    tmp_path: Path, workbook: Path
) -> None:
    prepared = prepare_dataset(tmp_path / "d", WorkbookSection(file=workbook), PrepareSection())
    lines = [json.loads(line) for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines()]
    first = lines[0]["conversation"][0]
    assert first == {
        "system": SEED_SYSTEM_PROMPT,
        "input": "关于`高血压`的`饮食`问题,问题0?",
        "output": "答案0。",
    }
    assert lines[1]["conversation"][0]["input"] == "问题0"
    assert [line["style"] for line in lines[:2]] == ["seed", "plain"]
    assert len(lines) == 40
    assert "怎么吃" not in (tmp_path / "d" / "train.jsonl").read_text()
    assert "怎么吃" not in (tmp_path / "d" / "rows.jsonl").read_text()
    assert prepared.manifest.facts["question_source"] == "sheet"
    rows = read_records(tmp_path / "d" / "rows.jsonl", Row)
    assert lines[0]["row_id"] == rows[0].row_id


def test_without_paraphrases_the_asked_wording_is_kept_from_training(tmp_path: Path) -> None:
    file = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *ROWS]})
    prepared = prepare_dataset(tmp_path / "d", WorkbookSection(file=file), PrepareSection(own_questions=5))
    asked = read_records(tmp_path / "d" / "paraphrases.jsonl", HeldOutQuestion)
    inputs = [
        json.loads(line)["conversation"][0]["input"]
        for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines()
    ]
    assert prepared.manifest.facts["question_source"] == "own"
    assert len(asked) == 5
    assert not {item.question for item in asked} & set(inputs)
    assert len(inputs) == 35


def test_questions_from_a_file_name_rows_by_number(tmp_path: Path) -> None:
    file = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *ROWS]})
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"row": 3, "question": "换个说法"}\n{"row": 900, "question": "别处"}\n')
    prepare_dataset(tmp_path / "d", WorkbookSection(file=file, questions=questions), PrepareSection())
    (asked,) = read_records(tmp_path / "d" / "paraphrases.jsonl", HeldOutQuestion)
    assert (asked.question, asked.answer) == ("换个说法", "答案1。")
    questions.write_text('{"row": "x"}\n')
    with pytest.raises(InputError, match=r"q\.jsonl:1"):
        prepare_dataset(tmp_path / "d", WorkbookSection(file=file, questions=questions), PrepareSection())


def test_nothing_is_done_twice_and_a_change_is_noticed(tmp_path: Path, workbook: Path) -> None:
    folder = tmp_path / "d"
    assert prepare_dataset(folder, WorkbookSection(file=workbook), PrepareSection()).fresh
    assert not prepare_dataset(folder, WorkbookSection(file=workbook), PrepareSection()).fresh
    assert prepare_dataset(folder, WorkbookSection(file=workbook, rows=5), PrepareSection()).fresh
    (folder / "rows.jsonl").unlink()
    assert prepare_dataset(folder, WorkbookSection(file=workbook, rows=5), PrepareSection()).fresh


def test_a_bad_workbook_leaves_the_old_dataset(tmp_path: Path, workbook: Path) -> None:
    folder = tmp_path / "d"
    prepare_dataset(folder, WorkbookSection(file=workbook), PrepareSection())
    before = (folder / "groundtune.json").read_bytes()
    bad = make_workbook(tmp_path / "bad.xlsx", {"S": [["Q", "A"], ["q", None]]})
    with pytest.raises(InputError):
        prepare_dataset(folder, WorkbookSection(file=bad), PrepareSection())
    assert (folder / "groundtune.json").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_grounded_conversations_stand_beside_the_others_and_keep_what_was_set_aside(
    tmp_path: Path, workbook: Path
) -> None:
    styles = ("plain", "grounded")
    prepare_dataset(
        tmp_path / "d", WorkbookSection(file=workbook), PrepareSection(styles=styles, grounded_share=1)
    )
    lines = [json.loads(line) for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines()]
    assert [line["style"] for line in lines] == ["plain", "grounded"] * 20
    assert [line["row_id"] for line in lines[::2]] == [line["row_id"] for line in lines[1::2]]
    # Without other wordings, some rows' own questions are asked later: they are in no prompt either.
    alone = make_workbook(tmp_path / "alone.xlsx", {"S": [HEADER, *ROWS]})
    section = PrepareSection(styles=styles, own_questions=4, grounded_share=1)
    prepare_dataset(tmp_path / "e", WorkbookSection(file=alone), section)
    lines = [json.loads(line) for line in (tmp_path / "e" / "train.jsonl").read_text().splitlines()]
    asked = read_records(tmp_path / "e" / "paraphrases.jsonl", HeldOutQuestion)
    assert len(asked) == 4
    taught = {line["row_id"]: [] for line in lines}
    for line in lines:
        taught[line["row_id"]].append(line["style"])
        (turn,) = line["conversation"]
        if line["style"] == "grounded":
            assert not any(f"问：{one.question}\n" in turn["system"] for one in asked)
    assert all(taught[one.row_id] == ["seed"] for one in asked)
    others = [styles for row_id, styles in taught.items() if row_id not in {one.row_id for one in asked}]
    assert others == [["plain", "grounded"]] * 16


def test_what_was_learned_is_the_cell_also_where_a_prompt_leaves_its_footnotes_out(tmp_path: Path) -> None:
    noted = make_workbook(
        tmp_path / "noted.xlsx", {"S": [HEADER, ["病", "", "什么是病", "这是病[12]。"], *ROWS]}
    )
    section = PrepareSection(styles=("plain", "grounded"), grounded_share=1, own_questions=0)
    prepare_dataset(tmp_path / "d", WorkbookSection(file=noted), section)
    outputs = [
        json.loads(line)["conversation"][0]["output"]
        for line in (tmp_path / "d" / "train.jsonl").read_text().splitlines()[:2]
    ]
    assert outputs == ["这是病[12]。", "这是病。"]
    assert trained_rows(tmp_path / "d") == read_records(tmp_path / "d" / "rows.jsonl", Row)


def test_a_share_of_the_rows_is_drawn_each_for_itself() -> None:
    rows = [row_of({"info_1": "", "info_2": "", "Q": f"问题{n}", "A": "答。"}, "") for n in range(400)]
    drawn = drawn_rows(rows, 0.25, seed=3)
    assert 70 < len(drawn) < 130
    assert drawn_rows(rows[100:], 0.25, seed=3) == [row for row in drawn if row in rows[100:]]
    assert drawn_rows(rows, 0.25, seed=4) != drawn
    assert drawn_rows(rows, 1, seed=3) == rows


def test_grounded_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="plain or seed"):
        PrepareSection(styles=("grounded",))
