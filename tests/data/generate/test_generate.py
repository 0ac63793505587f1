"""`groundtune data generate` against a scripted server: supported drafts only, resumed, and taken when approved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from typer.testing import CliRunner

from data.cli import app
from data.errors import GroundTuneError, InputError, UsageError
from data.generate.chunks import cut, sentences
from data.generate.journal import open_journal
from data.generate.replies import Pair, read_pairs, read_wordings
from data.generate.sources import Document, read_document
from data.knowledge_sheet import WorkbookChoice
from data.workbook import read_workbook
from tests.data.generate.scripted_model import ScriptedModel
from tests.serving.live_server import live_server

MANUAL = Path(__file__).with_name("饮水机手册.md")


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def url(model: ScriptedModel) -> Iterator[str]:
    with live_server(lambda _: model.app) as address:
        yield f"{address}/v1"


def generate(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["generate", *map(str, arguments), "--json"], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def rows_of(path: Path) -> list[dict[str, Any]]:
    head, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_drafts_are_quoted_from_the_text_and_await_review(url: str, tmp_path: Path) -> None:
    told = generate(MANUAL, "--out", tmp_path / "d.xlsx", "--url", url)
    rows = rows_of(tmp_path / "d.xlsx")
    text = MANUAL.read_text(encoding="utf-8")
    assert told["drafts"] == len(rows) > 40
    for row in rows:
        assert row["span"] in text
        assert row["A"] in text
        assert row["状态"] == "待审"
        line = text.split("\n")[int(row["source"].rpartition("#L")[2]) - 1]
        assert row["span"].split("\n")[0] in line
    assert not any("月球" in row["Q"] for row in rows)
    assert {row["info_1"] for row in rows} == {"清泉牌办公饮水机使用手册"}
    assert {row["info_2"] for row in rows} > {"安装", "换水桶", "保修与售后"}


def test_only_approved_drafts_become_rows(url: str, tmp_path: Path) -> None:
    book = tmp_path / "d.xlsx"
    generate(MANUAL, "--out", book, "--url", url)
    with pytest.raises(InputError, match="await review"):
        read_workbook(WorkbookChoice(book))
    edited = openpyxl.load_workbook(book)
    for number, status in ((3, "通过"), (4, "不用"), (5, "Approved")):
        edited.active.cell(number, 8).value = status
    edited.save(book)
    found = read_workbook(WorkbookChoice(book))
    assert [row.source.rpartition("!")[2] for row in found.rows] == ["C3", "C5"]
    assert any("await review" in note for note in found.notes)


def test_a_status_of_another_meaning_keeps_rows(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for values in (("Q", "A", "状态"), ("甲？", "一", "在售"), ("乙？", "二", None), ("丙？", "三", "待审")):
        book.active.append(values)
    book.save(tmp_path / "k.xlsx")
    rows = read_workbook(WorkbookChoice(tmp_path / "k.xlsx")).rows
    assert [row.question for row in rows] == ["甲？", "乙？"]


def test_what_a_workbook_asks_already_is_left_out(url: str, tmp_path: Path) -> None:
    first = generate(MANUAL, "--out", tmp_path / "a.xlsx", "--url", url)
    again = generate(MANUAL, "--out", tmp_path / "b.xlsx", "--url", url, "--existing", tmp_path / "a.xlsx")
    assert first["drafts"] > 40
    assert again["drafts"] == 0


def test_malformed_replies_are_asked_again_and_never_end_the_run(
    model: ScriptedModel, url: str, tmp_path: Path
) -> None:
    model.replies = ["好的！", "", "{[", 503]
    told = generate(MANUAL, "--out", tmp_path / "d.xlsx", "--url", url, "--concurrency", 1)
    assert told["malformed"] == 1
    assert told["drafts"] > 30
    assert sum(model.asked.values()) == told["asked"] + 3


def test_an_endpoint_that_fails_ends_the_run_and_the_next_goes_on(
    model: ScriptedModel, url: str, tmp_path: Path
) -> None:
    model.replies = ["问：饮水机放在哪里？\n答：平整、干燥、通风的地面上", 401]
    arguments = (MANUAL, "--out", tmp_path / "d.xlsx", "--url", url, "--concurrency", 1)
    with pytest.raises(GroundTuneError, match=r"1 of .* are kept"):
        generate(*arguments)
    assert not (tmp_path / "d.xlsx").exists()
    generate(*arguments)
    assert sorted(model.asked.values())[-2:] == [1, 2]
    with pytest.raises(UsageError, match="is there already"):
        generate(*arguments)


def test_killed_and_run_again_loses_and_doubles_no_row(tmp_path: Path) -> None:
    slow = ScriptedModel(delay_s=0.15)
    with live_server(lambda _: slow.app) as address:
        command = [
            *(sys.executable, "-m", "serving.cli", "data", "generate", str(MANUAL), "--url", f"{address}/v1"),
            *("--out", str(tmp_path / "d.xlsx"), "--concurrency", "2", "--chunk", "150"),
        ]
        journal = tmp_path / "d.journal.jsonl"
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not (journal.is_file() and journal.read_text(encoding="utf-8").count("\n") >= 5):
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        kept = journal.read_text(encoding="utf-8").count("\n")
        assert not (tmp_path / "d.xlsx").exists()
        with journal.open("a", encoding="utf-8") as file:
            file.write('{"key": "half a li')
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        asked_twice = sum(count > 1 for count in slow.asked.values())
        assert sum(slow.asked.values()) <= len(slow.asked) + 2, "only what was under way is asked again"
        assert asked_twice <= 2
        assert len(slow.asked) > kept + 3
        generate(MANUAL, "--url", f"{address}/v1", "--out", tmp_path / "whole.xlsx", "--chunk", 150)
    assert rows_of(tmp_path / "d.xlsx") == rows_of(tmp_path / "whole.xlsx")


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path / "j"),
        pytest.raises(UsageError, match="another"),
        open_journal(tmp_path / "j"),
    ):
        pass


def test_paraphrases_ask_the_same_of_the_same_row(model: ScriptedModel, url: str, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for values in (("Q", "A"), ("降压药每天吃几次？", "一次。"), ("感冒了能喝酒吗？", "不能。")):
        book.active.append(values)
    book.save(tmp_path / "k.xlsx")
    reply = "1. 降压药一天要吃几次\n2. 降压药每天吃几次呢\n3. 降压药不能吃几次\n4. 降压药吃2次行吗\n5. 感冒了喝酒行不行"
    model.replies = [reply, "感冒了可以喝白酒吗"]
    arguments = (tmp_path / "k.xlsx", "--out", tmp_path / "p.xlsx", "--url", url)
    told = generate(*arguments, "--paraphrase", 3, "--concurrency", 1)
    assert [(row["Q"], row["A"]) for row in rows_of(tmp_path / "p.xlsx")] == [
        ("降压药一天要吃几次", "一次。"),
        ("感冒了可以喝白酒吗", "不能。"),
    ]
    assert told["asked"] == 2


def test_a_formula_in_a_document_stays_text(model: ScriptedModel, url: str, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text('=HYPERLINK("http://evil","点我") 是一个公式的写法，不要照抄。', encoding="utf-8")
    model.replies = [f"问：=1+1 公式怎么写\n答：{source.read_text(encoding='utf-8')}"]
    generate(source, "--out", tmp_path / "d.xlsx", "--url", url)
    sheet = openpyxl.load_workbook(tmp_path / "d.xlsx").active
    assert [sheet[name].data_type for name in ("C2", "D2", "F2")] == ["s", "s", "s"]
    assert sheet["D2"].value.startswith("=HYPERLINK")
    assert sheet["D2"].quotePrefix


@pytest.mark.parametrize(
    "reply",
    [
        "问：多久洗一次？\n答：每三个月一次。",
        "**问题1：**多久洗一次？\n**答案：**每三个月一次。",
        "1. 问：多久洗一次？ 答：每三个月一次。",
        "Q1: 多久洗一次？\nA1: 每三个月一次。",
        '```json\n[{"问题": "多久洗一次？", "答案": "每三个月一次。"}]\n```',
        "好的。\n\n### 问：多久洗一次？\n\n- 答：每三个月一次。\n",
    ],
)
def test_many_forms_of_a_pair_are_read(reply: str) -> None:
    assert read_pairs(reply) == [Pair("多久洗一次？", "每三个月一次。")]


def test_wordings_are_read_without_their_numbers() -> None:
    assert read_wordings("好的，如下：\n1. 甲怎么办？\n- 乙如何\n问：丙吗\n1. 甲怎么办？") == [
        "甲怎么办？",
        "乙如何",
        "丙吗",
    ]


def test_chunks_and_sentences_are_the_text_itself() -> None:
    document = read_document(MANUAL)
    chunks = list(cut(document, 200))
    assert len(chunks) > 7
    for chunk in chunks:
        assert document.text[chunk.start :].startswith(chunk.text)
        assert len(chunk.text) <= 200
        assert "#" not in chunk.text
    text = "用量是1.5克。“够吗？”他问。\n- 一条\nIt works. See v2.0 now! wrapped\nline"
    assert [text[s.start : s.end] for s in sentences(text)] == [
        "用量是1.5克。", "“够吗？”", "他问。", "- 一条", "It works.", "See v2.0 now!", "wrapped\nline",
    ]  # fmt: skip


def test_html_and_docx_are_read_with_headings(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text(
        "<html><head><title>x</title><script>bad()</script></head><body><h2>安装</h2><p>放在<b>平地</b>上。"
        "<ul><li>一&amp;二<li>三</ul><style>p{}</style></body></html>",
        encoding="gb18030",
    )
    assert read_document(page).text == "## 安装\n\n放在平地上。\n\n一&二\n\n三"
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr(
            "word/document.xml",
            f'<w:document {word}><w:body><w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>安装</w:t></w:r>'
            "</w:p><w:p><w:r><w:t>放在</w:t></w:r><w:r><w:t>平地上。</w:t></w:r></w:p></w:body></w:document>",
        )
    document = read_document(tmp_path / "a.docx")
    assert document.text == "## 安装\n\n放在平地上。"
    assert document.place(7) == "a.docx#paragraph=2"


def test_a_pdf_is_read_by_pages(tmp_path: Path) -> None:
    pages = ["Clean it every three months.", "Call the service line at eight."]
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_of(pages))
    document = read_document(path)
    assert document.text == "\n\n".join(pages)
    assert document.place(document.text.index("Call")) == "a.pdf#page=2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF-1.7 nothing", "not a readable PDF"),
        ("a.docx", b"PK nothing", "not a whole"),
        ("a.txt", b"\x00\x01\x02", "neither UTF-8"),
        ("a.html", b"<script>x</script>", "no text"),
    ],
)
def test_an_unreadable_document_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_document(tmp_path / name)


def test_an_entity_bomb_in_a_docx_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE d [<!ENTITY a "aaaa">]><d>&a;</d>')
    with pytest.raises(InputError, match="DOCTYPE"):
        read_document(tmp_path / "a.docx")


def test_places_before_any_mark_are_the_document_itself() -> None:
    assert Document("a", "text", ()).place(2) == "a"


def pdf_of(pages: list[str]) -> bytes:
    """A PDF with a line of Helvetica a page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {5 + 2 * number} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>"
        )
        objects.append(f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    entries = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    body += f"xref\n0 {size}\n0000000000 65535 f \n{entries}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n"
    return f"{body}{body.index('xref')}\n%%EOF".encode()
