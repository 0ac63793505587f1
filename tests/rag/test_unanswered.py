from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.errors import InputError, UsageError
from data.workbook import WorkbookChoice, read_workbook
from rag.unanswered import UnansweredLog, read_unanswered
from tests.rag.rows import SALT
from tests.rag.test_cli import chosen, run  # noqa: F401


def test_what_is_kept_is_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "unanswered.jsonl"
    log = UnansweredLog(path, lambda: 7.0)
    log.keep("那价格呢", "阿司匹林 那价格呢", "refused", "abc", "v1")
    log.keep("二\n行", "二\n行", "declined", "", "v1")
    found = read_unanswered(path)
    assert [(each.question, each.searched, each.reason, each.nearest) for each in found] == [
        ("那价格呢", "阿司匹林 那价格呢", "refused", "abc"),
        ("二\n行", "二\n行", "declined", ""),
    ]
    assert found[0].asked_at == 7.0
    assert path.stat().st_mode & 0o077 == 0


def test_threads_do_not_mix_their_lines_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "unanswered.jsonl"
    log = UnansweredLog(path, lambda: 7.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.keep(f"问题{n}" * 50, "", "refused", "", ""), range(200)))
    with path.open("a") as file:
        file.write('{"question": "ha')
    assert len({each.question for each in read_unanswered(path)}) == 200


def test_faults_name_the_line_or_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "unanswered.jsonl"
    with pytest.raises(InputError, match="keep_unanswered"):
        read_unanswered(path)
    path.write_text('{"question": "a"}\n')
    with pytest.raises(InputError, match=r"jsonl:1"):
        read_unanswered(path)


def test_the_inbox_is_a_sheet_that_can_be_filled_in_and_read(
    chosen: list[str],  # noqa: F811
    workspace_root: Path,
    tmp_path: Path,
) -> None:
    run("index", *chosen)
    log = UnansweredLog(workspace_root / "runs" / "trial" / "unanswered.jsonl", lambda: 1.7e9)
    for question in ("高血压一盒药多少钱", "高血压一盒药多少钱？", "=1+1", "Where is the pharmacy\x07?"):
        log.keep(question, question, "refused", SALT.row_id, "v")
    out = tmp_path / "inbox.xlsx"
    told = json.loads(run("inbox", str(out), *chosen, "--json")[0])
    assert told["questions"] == 4
    assert told["drafts"] == 3

    import openpyxl

    book = openpyxl.load_workbook(out)
    page = book.active
    assert page is not None
    cells = [[cell.value for cell in row] for row in page.iter_rows()]
    assert cells[0][:6] == ["info_1", "info_2", "Q", "A", "状态", "次数"]
    assert cells[1][0] == "高血压"
    assert cells[1][2] in ("高血压一盒药多少钱", "高血压一盒药多少钱？")
    assert cells[1][4:6] == ["待审", 2]
    assert SALT.question in str(cells[1][7])
    formula = next(row for row in page.iter_rows(min_row=2) if row[2].value == "=1+1")
    assert formula[2].data_type == "s"
    for row in page.iter_rows(min_row=2):
        row[3].value = "答案。"
    book.save(tmp_path / "filled.xlsx")
    rows = read_workbook(WorkbookChoice(tmp_path / "filled.xlsx")).rows
    assert len(rows) == 3
    assert rows[0].answer == "答案。"

    with pytest.raises(UsageError, match="--force"):
        run("inbox", str(out), *chosen)
    run("inbox", str(out), *chosen, "--force")
    with pytest.raises(UsageError, match="xlsx"):
        run("inbox", str(tmp_path / "inbox.csv"), *chosen)
