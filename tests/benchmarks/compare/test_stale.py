"""The stale-knowledge probe against a scripted server: who still says what is no longer so, and who does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.compare.cli import app
from benchmarks.compare.stale import says
from benchmarks.measures.scores import Given
from data.artefacts import write_json
from data.cli import app as data_app
from data.manifest import read_manifest, write_manifest
from data.records import Row, read_records, revision_of
from data.workspace import Run, open_workspace
from tests.benchmarks.compare.scripted_api import ScriptedApi
from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.live_server import live_server

OLD = {n: f"第{n}章讲的是从前的事情，共有{n}页。" for n in range(6)}
NEW = {**OLD, 1: "这一章改写过了，讲将来。", 2: "第2章讲的是从前的事情，共有90页。"}
del NEW[3]


def question_of(number: int) -> str:
    return f"第{number}章讲什么内容"


def workbook(path: Path, answers: Mapping[int, str]) -> Path:
    rows = [["书", "目录", question_of(n), answer] for n, answer in answers.items()]
    return make_workbook(path, {"S": [HEADER, *rows]})


def prepare(path: Path) -> None:
    done = CliRunner().invoke(data_app, ["prepare", "--name", "books", "--workbook", str(path)])
    assert done.exit_code == 0, done.output


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose adapter learned OLD and whose index has NEW; neither model nor index are real."""
    run = open_workspace().run("books")
    prepare(workbook(tmp_path / "old.xlsx", OLD))
    dataset = read_manifest(run.dataset)
    assert dataset is not None
    for folder, kind, inputs in (
        (run.adapter, "adapter", {"train.jsonl": dataset.files["train.jsonl"].sha256}),
        (run.merged, "model", {}),
    ):
        folder.mkdir()
        (folder / "weights").write_bytes(b"x")
        if kind == "model":
            adapter = read_manifest(run.adapter)
            assert adapter is not None
            inputs = {"adapter": adapter.digest}
        write_manifest(folder, kind, inputs, {})
    prepare(workbook(tmp_path / "new.xlsx", NEW))
    version = run.index / "versions" / "v1"
    version.mkdir(parents=True)
    (version / "rows.jsonl").write_text((run.dataset / "rows.jsonl").read_text())
    write_json(version / "groundtune.json", {"kind": "index", "inputs": {}, "facts": {}, "files": {}})
    (run.index / "current").symlink_to("versions/v1")
    return run


@pytest.fixture
def api(run: Run) -> ScriptedApi:
    return ScriptedApi({"tuned": lambda _: ("", None), "base": lambda _: ("不知道。", None)})


@pytest.fixture
def url(api: ScriptedApi, run: Run) -> Iterator[str]:
    """`tuned` says what it learned where it is asked alone, and the row's answer as it is served."""
    current = {row.question: row for row in read_records(run.dataset / "rows.jsonl", Row)}

    def tuned(question: str) -> tuple[str, Mapping[str, Any] | None]:
        number = int(question[1])
        is_alone = bool(api.bodies[-1].get("groundtune"))
        row = current.get(question)
        if is_alone or row is None:
            return OLD[number], None
        return row.answer, {"citations": [], "no_answer": False}

    api.models = {**api.models, "tuned": tuned}
    with live_server(lambda _: api.app) as address:
        yield f"{address}/v1"


def compare(*arguments: object) -> str:
    options = ("--name", "books", "--embedding", "none", *arguments)
    result = CliRunner().invoke(app, [str(argument) for argument in options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_changed_is_asked_of_the_model_alone_and_as_it_is_served(
    url: str, api: ScriptedApi, tmp_path: Path
) -> None:
    shown = compare("--stale-only", "--url", url, "--out", tmp_path / "out")
    probe = json.loads((tmp_path / "out" / "compare.json").read_text())["stale"]
    assert (probe["num_stale"], probe["num_asked"]) == (3, 3)
    assert probe["counts"]["tuned alone"] == {"old": 3, "new": 0, "neither": 0, "refused": 0}
    assert probe["counts"]["tuned as served"] == {"old": 1, "new": 2, "neither": 0, "refused": 0}
    by_change = {(row["change"], row["question"]): row for row in probe["rows"]}
    gone = by_change["removed", question_of(3)]
    assert gone["new"] is None and gone["answers"]["tuned alone"]["says"] == "old"
    assert by_change["revised", question_of(2)]["old"] == OLD[2]
    assert "3 answers changed since training" in shown
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "这一章改写过了" in page and "共有90页" in page
    assert len(api.requests) == 6
    compare("--stale-only", "--url", url, "--out", tmp_path / "out")
    assert len(api.requests) == 6


def test_a_whole_comparison_has_the_probe_too(url: str, tmp_path: Path) -> None:
    shown = compare(
        "--arms", "base,tuned", "--url", url, "--limit", "4", "--stale", "2", "--out", tmp_path / "out"
    )
    report = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (report["stale"]["num_stale"], report["stale"]["num_asked"]) == (3, 2)
    assert report["num_answerable"] == 4
    assert "(asked about 2)" in shown
    compare("--arms", "base,tuned", "--url", url, "--limit", "4", "--stale", "0", "--out", tmp_path / "none")
    assert json.loads((tmp_path / "none" / "compare.json").read_text())["stale"] is None


def test_a_model_that_learned_what_is_so_is_not_probed(run: Run, url: str, tmp_path: Path) -> None:
    prepare(workbook(tmp_path / "again.xlsx", OLD))
    rows = read_records(run.dataset / "rows.jsonl", Row)
    text = (run.dataset / "rows.jsonl").read_text()
    assert len(rows) == 6
    (run.index / "versions" / "v1" / "rows.jsonl").write_text(text)
    assert "nothing to ask" in compare("--stale-only", "--url", url)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("每天吃盐不超过5克。", "old"),
        ("每天吃盐不超过 6 克[1]。", "new"),
        ("多吃蔬菜。", "neither"),
        ("抱歉，我不知道。", "refused"),
    ],
)
def test_one_number_tells_two_answers_apart(text: str, said: str) -> None:
    given = Given(text, None, False, 1.0, None, None)
    assert says(given, "成人每天食盐不超过5克。", "成人每天食盐不超过6克。") == said


def test_a_row_that_is_gone() -> None:
    old = Row("r", revision_of("x"), "", "", "q", "晚饭后散步半小时对血糖有好处。", "s")
    given = Given(old.answer, None, False, 1.0, None, None)
    assert says(given, old.answer, None) == "old"
    assert says(replace(given, text="请咨询医生。"), old.answer, None) == "neither"
