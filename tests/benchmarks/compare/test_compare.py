"""`groundtune compare` against a scripted server: asked once, kept, scored, told in words and on a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.compare.arms import Arm, parse_arms
from benchmarks.compare.cli import app
from benchmarks.compare.journal import Journal
from benchmarks.compare.marks import marked
from benchmarks.compare.questions import choose, questions_of_file
from benchmarks.measures.scores import Given
from benchmarks.measures.sources import Passage
from data.errors import GroundTuneError, InputError, UsageError
from data.records import Row, revision_of, row_id_of, write_records
from tests.benchmarks.compare.scripted_api import ScriptedApi
from tests.serving.live_server import live_server

TOPICS = ("高血压", "糖尿病")
ROWS = [
    Row(
        row_id_of(topic, "饮食", f"{topic}第{number}问"),
        revision_of(f"第{number}条：{topic}患者每天{number}次，少吃盐，不要饮酒。"),
        topic,
        "饮食",
        f"{topic}第{number}问",
        f"第{number}条：{topic}患者每天{number}次，少吃盐，不要饮酒。",
        f"k.xlsx#S!A{12 * place + number + 2}",
    )
    for place, topic in enumerate(TOPICS)
    for number in range(12)
]
BY_QUESTION = {row.question: row for row in ROWS}


def retrieved(question: str) -> tuple[str, Mapping[str, Any]]:
    """What base-rag says: the row's own answer, cited; a refusal where there is none."""
    row = BY_QUESTION.get(question)
    if row is None:
        return "知识库中没有能回答这个问题的内容。", {"citations": [], "no_answer": True}
    passage = {
        "content": row.answer,
        "title": row.title,
        "url": f"http://kb/{row.row_id}",
        "filepath": row.source,
        "chunk_id": row.row_id,
    }
    return f"{row.answer[:-1]}[1]。", {"citations": [passage], "no_answer": False}


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi(
        {
            "base": lambda question: ("多休息，可以饮酒，按时吃药。<b>&", None),
            "same": lambda question: ("多休息，可以饮酒，按时吃药。<b>&", None),
            "base-rag": retrieved,
        }
    )


@pytest.fixture
def url(api: ScriptedApi) -> Iterator[str]:
    with live_server(lambda _: api.app) as address:
        yield f"{address}/v1"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    write_records(tmp_path / "var" / "runs" / "quickstart" / "dataset" / "rows.jsonl", ROWS)
    lines = [{"question": row.question, "row_id": row.row_id} for row in ROWS]
    lines += [{"question": f"无人知道{number}", "unanswerable": True} for number in range(12)]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    return path


def compare(*arguments: object) -> str:
    options = ("--embedding", "none", *arguments)
    result = CliRunner().invoke(app, [str(argument) for argument in options], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_comparison_in_figures_and_in_words(url: str, questions: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {base-rag: {input: 100, output: 100}}")
    shown = compare(
        questions, "--url", url, "--arms", "base,same,base-rag", "--prices", prices, "--out", tmp_path / "out"
    )
    report = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert (report["num_answerable"], report["num_unanswerable"]) == (24, 12)
    base, rag = report["summary"]["base"], report["summary"]["base-rag"]
    assert rag["rouge_l"]["mean"] == rag["facts_kept"]["mean"] == 100
    assert base["rouge_l"]["mean"] < 40
    # 可以饮酒 against 不要饮酒.
    assert (base["contradicts"]["mean"], rag["contradicts"]["mean"]) == (100, 0)
    assert rag["citation_precision"]["mean"] == rag["groundedness"]["mean"] == 100
    assert base["citation_precision"] is None
    assert rag["refusal_right"]["mean"] == 100
    assert base["refusal_right"]["mean"] == pytest.approx(100 * 24 / 36)
    assert rag["cost"]["mean"] > 0 and base["cost"] is None
    verdicts = "\n".join(report["verdicts"])
    assert "base-rag comes first in ROUGE-L, 100.0 [100.0, 100.0]" in verdicts
    assert "better than base and same beyond chance" in verdicts
    assert "same adds nothing significant over base: +0.0 ROUGE-L" in verdicts
    assert re.search(r"base-rag is better than base on these 24 questions: \+\d\d\.\d ROUGE-L \[", verdicts)
    assert "base-rag is better in 糖尿病 and 高血压" in verdicts
    assert "base-rag better than base (McNemar p = 0.00049)" in verdicts
    assert "base-rag comes first" in shown and "compare.html" in shown


class Balance(HTMLParser):
    """Notes what is open at the end, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input", "br", "path", "rect", "circle", "option"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "option"):
            while self.open and self.open.pop() != tag:
                pass


def test_the_page_needs_nothing_else_and_hides_nothing(url: str, questions: Path, tmp_path: Path) -> None:
    compare(questions, "--url", url, "--arms", "base,base-rag", "--out", tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text()
    parsed = Balance()
    parsed.feed(page)
    assert parsed.addresses == []
    assert page.count("<article") == 36
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page
    assert "<mark>" in page and "k.xlsx#S!A2" in page and "<svg" in page
    assert "<option>高血压</option>" in page


def test_a_report_without_the_words_of_the_knowledge_base(
    api: ScriptedApi, url: str, questions: Path, tmp_path: Path
) -> None:
    whole, bare = tmp_path / "out", tmp_path / "bare"
    compare(questions, "--url", url, "--arms", "base,base-rag", "--out", whole)
    api.requests.clear()
    compare("--from-report", whole / "compare.json", "--withhold-texts", "--out", bare)
    assert api.requests == []
    before, after = (json.loads((folder / "compare.json").read_text()) for folder in (whole, bare))
    assert before["summary"] == after["summary"] and before["pairs"] == after["pairs"]
    assert after["questions"][0]["answers"]["base-rag"]["cited"][0]["row_id"] == ROWS[0].row_id
    written = (bare / "compare.json").read_text() + (bare / "compare.html").read_text()
    for word in ("少吃盐", "多休息", "第3问", "无人知道"):
        assert word in (whole / "compare.html").read_text() and word not in written
    assert "withheld" in written and written.count("<article") == 36 and "k.xlsx#S!A2" in written
    (bare / "other.json").write_text('{"kind": "a load"}')
    with pytest.raises(InputError, match=r"other\.json: not a report of `groundtune compare`"):
        compare("--from-report", bare / "other.json")


def test_a_second_run_asks_nothing_and_a_broken_one_goes_on(
    api: ScriptedApi, url: str, questions: Path, tmp_path: Path
) -> None:
    options = (questions, "--url", url, "--arms", "base,base-rag", "--out", tmp_path / "out", "--json")
    api.fail_from = 50
    with pytest.raises(GroundTuneError, match=r"22 questions were not answered.*out of order"):
        compare(*options)
    api.fail_from = None
    api.requests.clear()
    first = json.loads(compare(*options))
    assert len(api.requests) == 22
    api.requests.clear()
    second = json.loads(compare(*options))
    assert api.requests == []
    assert (first["summary"], first["pairs"]) == (second["summary"], second["pairs"])


def test_a_journal_survives_half_a_line(tmp_path: Path) -> None:
    given = Given("好", (Passage("r", "t", "x", "u", "s"),), False, 0.5, 1, None)
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.add("a", given)
    path.write_text(path.read_text() + '{"key": "b", "te')
    with Journal(path) as journal:
        assert (journal.get("a"), journal.get("b")) == (given, None)
        journal.add("c", given)
    with Journal(path) as journal:
        assert journal.get("a") == journal.get("c") == given


def test_arms() -> None:
    assert parse_arms(["base", "org/m@https://h/v1/"]) == [
        Arm("base", "base", None),
        Arm("org/m@https://h/v1/", "org/m", "https://h/v1"),
    ]
    for texts, message in (
        (["a"], "at least two"),
        (["a", "a"], "twice"),
        (["@http://h", "b"], "expected MODEL"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_arms(texts)


def test_questions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "x", "row": 3}\n{"question": "y", "answer": "z", "category": "c"}\n')
    (first, second), others = questions_of_file(path, ROWS)
    assert first.wanted.right_rows == (ROWS[1].row_id,)
    assert (first.category, second.category, others) == ("高血压", "c", [])
    path.write_text('{"question": "x"}')
    with pytest.raises(InputError, match=r"q\.jsonl:1: neither a row nor an answer; expected"):
        questions_of_file(path, ROWS)


def test_questions_are_drawn_the_same_way_every_time(questions: Path) -> None:
    answerable, _ = questions_of_file(questions, ROWS)
    drawn = choose(answerable, 5, 1)
    assert drawn == choose(answerable, 5, 1) != choose(answerable, 5, 2)
    assert choose(answerable, 0, 1) == choose(answerable, 99, 1) == answerable


def test_marks_are_what_the_reference_does_not_say() -> None:
    pieces = marked("每天吃盐6克，多跑步。", "每天吃盐应少于5克，多喝水。")
    assert "".join(text for text, _ in pieces) == "每天吃盐6克，多跑步。"
    assert [text for text, shared in pieces if not shared] == ["6", "跑步"]
    assert marked("same words", "same words") == [("same words", True)]
