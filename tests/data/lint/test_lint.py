from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.cli import app
from data.lint.lint import LintReport, lint_table
from data.lint.table import read_table
from data.workbook import WorkbookChoice
from tests.data.lint.sheets import PLANTED, clean_sheet, faulty_sheet
from tests.data.test_workbook import HEADER, make_workbook

SAMPLE = Path(__file__).parents[3] / "data" / "知识库内容.xlsx"


def linted(path: Path, **choice: object) -> LintReport:
    return lint_table(read_table(WorkbookChoice(path, **choice)))  # type: ignore[arg-type]


def found(path: Path) -> dict[str, str]:
    """Return cell to kind of fault; a cell with two faults fails the test."""
    report = linted(path)
    cells = {item.cell: item.kind for item in report.findings}
    assert len(cells) == len(report.findings)
    return cells


def test_each_planted_fault_is_found_in_its_cell_and_nothing_else(tmp_path: Path) -> None:
    assert found(faulty_sheet(tmp_path / "k.xlsx")) == {cell: kind for kind, cell in PLANTED.items()}


def test_nothing_is_found_on_a_clean_sheet(tmp_path: Path) -> None:
    assert found(clean_sheet(tmp_path / "k.xlsx")) == {}
    assert found(SAMPLE) == {}


def rows_of(*questions_and_answers: tuple[str, str], info: str = "痛风") -> list[list[object]]:
    return [HEADER, *([info, "用药", question, answer] for question, answer in questions_and_answers)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("痛风能吃2片别嘌醇吗", "痛风能吃3片别嘌醇吗"),
        ("痛风急性期可以吃别嘌醇吗", "痛风急性期不可以吃别嘌醇吗"),
        ("痛风能吃海鲜火锅里的虾吗", "痛风能吃海鲜火锅里的鱼吗"),
        (
            "What is the usual dose of cefuroxime for an adult?",
            "What is the usual dose of cefixime for an adult?",
        ),
    ],
)
def test_questions_that_only_look_alike_are_not_duplicates(tmp_path: Path, first: str, second: str) -> None:
    rows = rows_of((first, "可以少量吃，先问过医生。"), (second, "不建议这样吃，先问过医生。"))
    assert found(make_workbook(tmp_path / "k.xlsx", {"S": rows})) == {}


def test_a_generic_question_under_another_topic_is_one_note_not_a_duplicate(tmp_path: Path) -> None:
    rows = [HEADER] + [
        [topic, "症状", "有哪些症状", f"{topic}的人常常觉得不舒服。"] for topic in ("痛风", "感冒", "哮喘")
    ]
    (item,) = linted(make_workbook(tmp_path / "k.xlsx", {"S": rows})).findings
    assert (item.kind, item.severity, item.cell) == ("ambiguous-questions", "info", "C1")
    rows = [HEADER] + [
        [topic, "症状", "痛风有哪些症状", answer]
        for topic, answer in [("痛风", "红肿热痛。"), ("关节", "没有症状。")]
    ]
    (item,) = linted(make_workbook(tmp_path / "k2.xlsx", {"S": rows})).findings
    assert (item.kind, item.severity, item.cell, item.related) == (
        "conflicting-answers",
        "warning",
        "D3",
        "D2",
    )


def test_a_column_that_is_mostly_blank_is_one_note(tmp_path: Path) -> None:
    rows = [HEADER] + [
        ["退货" if n == 0 else None, f"种类{n}", f"第{n}个问题怎么办", f"按照说明书第{n}页做。"]
        for n in range(6)
    ]
    assert found(make_workbook(tmp_path / "k.xlsx", {"S": rows})) == {"A1": "blank-column"}


def test_mapped_columns_another_sheet_and_the_first_rows(tmp_path: Path) -> None:
    rows = [
        ["note"],
        ["Answer", "Ask"],
        ["because it is", "why is it so"],
        [None, "and why not"],
        [None, "or what else"],
    ]
    path = make_workbook(tmp_path / "k.xlsx", {"T": [["x"]], "S": rows})
    report = linted(path, sheet="S", mapping={"Q": "Ask"}, max_rows=2)
    assert [(item.cell, item.kind) for item in report.findings] == [("A4", "blank-answer")]


def test_exit_status_json_and_table(tmp_path: Path) -> None:
    run = CliRunner().invoke
    clean, faulty = clean_sheet(tmp_path / "c.xlsx"), faulty_sheet(tmp_path / "f.xlsx")
    result = run(app, ["lint", str(clean)])
    assert (result.exit_code, result.stdout) == (0, "c.xlsx#知识: 24 rows, nothing found\n")
    result = run(app, ["lint", str(faulty), "--json"])
    shown = json.loads(result.stdout)
    assert result.exit_code == 1
    assert {item["cell"] for item in shown["findings"]} == set(PLANTED.values())
    assert shown["num_findings"]["error"] > 0
    result = run(app, ["lint", str(faulty), "--max", "3"])
    assert "17 more" in result.stdout


def test_many_rows_take_seconds(tmp_path: Path) -> None:
    from data.lint.table import Line, Table

    lines = tuple(
        Line(
            n,
            {
                "Q": f"型号{n * 7919 % 100_003}的机器在{n % 97}号门店能不能退",
                "A": f"第{n}条规定说明，七天之内都可以退。",
            },
        )
        for n in range(2, 20_002)
    )
    table = Table(tmp_path / "k.xlsx", "S", 1, {"Q": "A", "A": "B"}, lines, frozenset())
    started = time.monotonic()
    assert lint_table(table).findings == ()
    assert time.monotonic() - started < 20
