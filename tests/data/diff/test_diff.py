from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from data.cli import app
from data.diff.changes import Diff, diff_rows
from data.diff.run_state import index_work, read_run_state
from data.errors import InputError
from data.learned import learned_rows
from data.manifest import read_manifest, write_manifest
from data.prepare import prepare_dataset
from data.records import Row, revision_of, row_id_of, write_records
from data.settings import PrepareSection, WorkbookSection
from data.workspace import Run, open_workspace
from tests.data.test_workbook import HEADER, make_workbook


def row(question: str, answer: str, info_1: str = "", number: int = 2) -> Row:
    return Row(
        row_id_of(info_1, "", question),
        revision_of(answer),
        info_1,
        "",
        question,
        answer,
        f"k.xlsx#S!C{number}",
    )


TEN = [
    row(f"第{n}章讲什么内容", f"第{n}章讲的是很多人都关心的事情，请看原文。", number=n + 2) for n in range(10)
]


def kinds(diff: Diff) -> list[tuple[str, str]]:
    return [(change.kind, change.row.question) for change in diff.changes]


def test_equal_states_have_no_changes() -> None:
    diff = diff_rows(TEN, TEN)
    assert (diff.changes, diff.num_unchanged) == ((), 10)


def test_each_kind_of_change() -> None:
    new = list(TEN)
    new[1] = row(TEN[1].question, "完全不同的答案。")
    new[2] = row("请问第2章的主要内容有哪些呀", TEN[2].answer)
    new[3] = row("请问第3章讲啥内容呢", "另写的答案。")
    new[4] = row(TEN[4].question, TEN[4].answer, info_1="目录")
    new.append(new.pop(5))
    del new[0]
    new.insert(3, row("附录在哪里", "在书的最后几页。"))
    assert kinds(diff_rows(TEN, new)) == [
        ("revised", "第1章讲什么内容"),
        ("reworded", "请问第2章的主要内容有哪些呀"),
        ("rewritten", "请问第3章讲啥内容呢"),
        ("added", "附录在哪里"),
        ("reworded", "第4章讲什么内容"),
        ("moved", "第5章讲什么内容"),
        ("removed", "第0章讲什么内容"),
    ]


def test_another_number_is_another_question() -> None:
    old, new = [row("每天能吃两片吗", "两片可以。")], [row("每天能吃三片吗", "三片不行。")]
    assert kinds(diff_rows(old, new)) == [("added", "每天能吃三片吗"), ("removed", "每天能吃两片吗")]


def test_a_short_answer_that_many_share_matches_nobody_by_itself() -> None:
    old = [row("周末营业吗", "是"), row("可以停车吗", "是")]
    new = [row("有无线网络吗", "是"), row("周末也营业吗", "是")]
    assert kinds(diff_rows(old, new)) == [
        ("added", "有无线网络吗"), ("reworded", "周末也营业吗"), ("removed", "可以停车吗"),
    ]  # fmt: skip


def test_rows_put_in_above_move_nothing() -> None:
    diff = diff_rows(TEN, [row("前言写了什么", "写了缘由。"), *TEN])
    assert kinds(diff) == [("added", "前言写了什么")]


@given(st.permutations(range(8)))
def test_moved_rows_are_the_fewest_that_explain_the_order(order: list[int]) -> None:
    diff = diff_rows(TEN[:8], [TEN[place] for place in order])
    moved = {TEN.index(change.row) for change in diff.of_kind("moved")}
    staying = [place for place in order if place not in moved]
    assert staying == sorted(staying)
    longest = max(len(run) for run in _increasing_runs(order))
    assert len(staying) == longest


def _increasing_runs(order: list[int]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for place in order:
        runs += [[*run, place] for run in runs if not run or run[-1] < place]
    return runs


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.randoms(use_true_random=False))
def test_every_row_is_accounted_for_once(names: list[str], chance: random.Random) -> None:
    old = [row(f"what is {name}", f"{name} is a letter") for name in "abcde"]
    new = [row(f"what is {name}", chance.choice([f"{name} is a letter", "no idea"])) for name in names]
    diff = diff_rows(old, new)
    olds = [change.old.row_id for change in diff.changes if change.old]
    news = [change.new.row_id for change in diff.changes if change.new]
    assert len(olds) == len(set(olds)) == len(old) - diff.num_unchanged
    assert len(news) == len(set(news)) == len(new) - diff.num_unchanged


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Run]:
    """A workbook of six rows, and a run whose adapter was trained on it; as training leaves it, weights aside."""
    rows = [["书", "目录", f"第{n}章讲什么内容", f"第{n}章讲的是第{n}件事。"] for n in range(6)]
    path = make_workbook(tmp_path / "old.xlsx", {"S": [HEADER, *rows]})
    run = open_workspace().run("books")
    manifest = prepare_dataset(run.dataset, WorkbookSection(file=path), PrepareSection()).manifest
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    write_manifest(run.adapter, "adapter", {"train.jsonl": manifest.files["train.jsonl"].sha256}, {})
    return path, run


def changed(path: Path) -> Path:
    rows = [["书", "目录", f"第{n}章讲什么内容", f"第{n}章讲的是第{n}件事。"] for n in range(1, 6)]
    rows[0][3] = "改过了。"
    return make_workbook(path, {"S": [HEADER, *rows, ["书", "目录", "还有续集吗", "没有续集。"]]})


def test_old_answers_in_the_weights_are_named(tmp_path: Path, trained: tuple[Path, Run]) -> None:
    old, run = trained
    arguments = ["diff", str(old), str(changed(tmp_path / "new.xlsx")), "--run", "books"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    shown = json.loads(result.stdout)
    assert shown["counts"] == {
        "added": 1,
        "removed": 1,
        "revised": 1,
        "reworded": 0,
        "rewritten": 0,
        "moved": 0,
    }
    by_question = {(c["new"] or c["old"])["question"]: c for c in shown["changes"]}
    assert by_question["第1章讲什么内容"]["old_answer_in_weights"]
    assert by_question["第0章讲什么内容"]["old_answer_in_weights"]
    assert not by_question["还有续集吗"]["old_answer_in_weights"]
    assert shown["run"]["weights"] == "adapter"
    assert len(shown["run"]["stale_row_ids"]) == 2
    assert len(shown["index"]["embed"]) == 2
    assert shown["index"]["drop"] == [by_question["第0章讲什么内容"]["old"]["row_id"]]
    result = CliRunner().invoke(app, arguments)
    assert "its adapter learned 2 answers that are no longer so; 2 rows are new to it" in result.stdout

    adapter = read_manifest(run.adapter)
    assert adapter is not None
    run.merged.mkdir()
    (run.merged / "model.safetensors").write_bytes(b"weights")
    write_manifest(run.merged, "model", {"adapter": adapter.digest}, {})
    assert read_run_state(run).weights == "merged"


def test_a_dataset_prepared_again_hides_what_was_learned(tmp_path: Path, trained: tuple[Path, Run]) -> None:
    _, run = trained
    new = changed(tmp_path / "new.xlsx")
    prepare_dataset(run.dataset, WorkbookSection(file=new), PrepareSection())
    assert read_run_state(run).weights == "unknown"
    result = CliRunner().invoke(app, ["diff", str(run.dataset), str(new), "--run", "books"])
    assert "cannot be told" in result.stdout
    assert "6 unchanged" in result.stdout


def test_what_was_learned_is_known_after_the_dataset_was_prepared_again(
    tmp_path: Path, trained: tuple[Path, Run]
) -> None:
    old, run = trained
    new = changed(tmp_path / "new.xlsx")
    for _ in range(2):
        prepared = CliRunner().invoke(app, ["prepare", "--name", "books", "--workbook", str(new)])
        assert prepared.exit_code == 0, prepared.output
    assert read_run_state(run).weights == "adapter"
    learned = learned_rows(run)
    assert learned is not None
    assert {row.answer for row in learned} == {f"第{n}章讲的是第{n}件事。" for n in range(6)}
    result = CliRunner().invoke(app, ["diff", str(old), str(run.dataset), "--run", "books"])
    assert "its adapter learned 2 answers that are no longer so" in result.stdout
    # Trained anew on what is there now: nothing of it is stale.
    manifest = read_manifest(run.dataset)
    assert manifest is not None
    write_manifest(run.adapter, "adapter", {"train.jsonl": manifest.files["train.jsonl"].sha256}, {})
    assert len(learned_rows(run) or ()) == 6
    assert "改过了。" in {row.answer for row in learned_rows(run) or ()}


def test_a_runs_own_index_decides_what_to_embed(trained: tuple[Path, Run]) -> None:
    _, run = trained
    assert index_work((), TEN, read_run_state(run)).embed == ()
    write_records(
        run.index / "current" / "rows.jsonl",
        [TEN[0], row(TEN[1].question, "old answer"), row("gone", "gone")],
    )
    work = index_work((), TEN[:3], read_run_state(run))
    assert [item.question for item in work.embed] == [TEN[1].question, TEN[2].question]
    assert work.drop == (row_id_of("", "", "gone"),)


def test_a_run_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no such run"):
        read_run_state(open_workspace().run("none"))
