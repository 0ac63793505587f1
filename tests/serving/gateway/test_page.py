"""The chat page: its files over HTTP, and in a real Chromium against a live gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.access.budgets import Budgets
from serving.access.keys import KeyRing, add_key
from serving.gateway.admission import Access
from serving.gateway.page import WebPage
from serving.gateway.parts import GatewaySettings
from tests.serving.browser import Page, browser_page
from tests.serving.conftest import Running, gateway_app
from tests.serving.knowledge import REFUSAL, ROWS
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine

_ANSWERED = "document.querySelectorAll('.answer[aria-busy=false]').length"


def test_files_need_no_other_origin(gateway: Running) -> None:
    for path in WebPage().paths:
        response = httpx.get(f"{gateway.url}{path}")
        assert response.status_code == 200
        assert "script-src 'self'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        for opener in ('src="http', 'href="http', "url(", "innerHTML", "import("):
            assert opener not in response.text, (path, opener)
    assert httpx.get(f"{gateway.url}/web/").status_code == 404
    assert httpx.get(f"{gateway.url}/web/..%2fpage.py").status_code == 404


def test_models_say_which_of_them_chat(gateway: Running) -> None:
    cards = httpx.get(f"{gateway.url}/v1/models").json()["data"]
    assert {card["id"]: card["groundtune"] for card in cards} == {
        "base": {"kind": "chat", "grounded": False},
        "base-rag": {"kind": "chat", "grounded": True},
        "tuned": {"kind": "chat", "grounded": False},
        "tuned-rag": {"kind": "chat", "grounded": True},
        "tiny-embedding": {"kind": "embedding", "grounded": False},
    }


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A tab of an English browser."""
    with browser_page(tmp_path / "profile") as tab:
        yield tab


def _ask(page: Page, question: str, num_answers: int = 1) -> None:
    """Type a question, send it with Enter and wait for so many answers more."""
    before = page.evaluate(_ANSWERED)
    page.evaluate("document.querySelector('#question').focus()")
    page.type(question)
    page.press("Enter")
    page.wait(f"{_ANSWERED} === {before + num_answers}")


def _last(page: Page, selector: str) -> str:
    return str(page.evaluate(f"[...document.querySelectorAll('.answer {selector}')].at(-1).innerText"))


@pytest.mark.integration
def test_ask_and_open_a_citation(gateway: Running, engine: ScriptedEngine, page: Page) -> None:
    engine.texts = ["😀<b>每天</b>食盐不超过 ", "<5> 克。", "[1]"]
    page.open(gateway.url)
    page.wait("document.querySelectorAll('#model option').length === 4")
    assert page.evaluate("document.querySelector('#model').value") == "tuned-rag"
    assert page.evaluate("document.activeElement.id") == "question"
    page.type("高血压")
    page.press("Enter", shift=True)
    page.type("能吃盐吗")
    page.press("Enter")
    page.wait(f"{_ANSWERED} === 1")
    assert page.text(".asked") == "高血压\n能吃盐吗"
    # Markup of a model stays text; the emoji before the mark does not shift it.
    assert page.evaluate("document.querySelector('.answer .words').textContent").startswith("😀<b>每天</b>")
    assert page.evaluate("document.querySelectorAll('.words b').length") == 0
    assert page.text(".mark") == "1"
    assert ROWS[0].title in page.text(".sources")
    page.click(".mark")
    page.wait("document.querySelector('#row').open && document.querySelector('#row-source').innerText")
    assert page.text("#row-answer") == ROWS[0].answer
    assert page.text("#row-source") == ROWS[0].source
    page.press("Escape")
    page.wait("!document.querySelector('#row').open")
    assert page.evaluate("document.activeElement.className") == "mark"
    # By keyboard alone: one step back from the question is the last source.
    page.evaluate("document.querySelector('#question').focus()")
    page.press("Tab", shift=True)
    assert page.evaluate("!!document.activeElement.closest('.sources')")
    page.press("Enter")
    page.wait("document.querySelector('#row').open")
    page.press("Escape")
    page.wait("!document.querySelector('#row').open && !!document.activeElement.closest('.sources')")
    assert "每天" in page.evaluate("document.querySelector('#told').textContent"), "told to screen readers"
    # The second question follows the first, and its answer.
    _ask(page, "那么糖呢")
    assert page.faults == []


@pytest.mark.integration
def test_stream_stop_and_go_on(gateway: Running, engine: ScriptedEngine, page: Page) -> None:
    engine.texts, engine.delay_s = ["一", "二", "三", *["…"] * 400], 0.05
    page.open(gateway.url)
    page.wait("document.querySelector('#model').value")
    page.evaluate("document.querySelector('#model').value = 'base'")
    page.type("数")
    page.press("Enter")
    # Text shows while the engine still writes.
    page.wait("document.querySelector('.words')?.textContent.startsWith('一二')")
    assert engine.num_open == 1
    page.click("#stop")
    page.wait("document.querySelector('.badge')?.dataset.kind === 'stopped'")
    page.wait("!document.querySelector('#send').hidden && document.activeElement.id === 'question'")
    # The engine hears of it a moment later than the page shows it.
    deadline = time.monotonic() + 5
    while engine.num_open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.num_cancelled == 1
    engine.texts, engine.delay_s = ["好"], 0.0
    _ask(page, "再")
    asked = [(one["role"], one["content"]) for one in engine.requests[-1]["messages"]]
    assert asked == [("system", "你是医生。"), ("user", "再")], "a stopped answer is no part of the history"
    _ask(page, "又")
    assert [one["content"] for one in engine.requests[-1]["messages"]][1:] == ["再", "好", "又"]
    assert engine.num_cancelled == 1, "the later ones were answered whole"
    assert page.faults == []


@pytest.mark.integration
def test_refused_quoted_failed(gateway: Running, engine: ScriptedEngine, page: Page) -> None:
    page.open(gateway.url)
    page.wait("document.querySelector('#model').value")
    _ask(page, "今天天气")
    assert REFUSAL in _last(page, ".words")
    assert page.evaluate("document.querySelector('.badge').dataset.kind") == "refused"
    assert page.evaluate("document.querySelectorAll('.answer .sources').length") == 0
    _ask(page, "天气对高血压")
    assert ROWS[1].title in _last(page, ".sources button")
    _ask(page, "要喝水吗")
    assert _last(page, ".badge") == "Word for word from the workbook"
    assert ROWS[2].answer in _last(page, ".words")
    engine.stop_after = 1
    page.evaluate("document.querySelector('#model').value = 'base'")
    _ask(page, "一")
    assert "engine 'base' is not available" in _last(page, ".fault")
    assert page.evaluate("document.querySelector('#question').value") == "一"
    assert page.faults == []


@pytest.mark.integration
def test_four_models_side_by_side_and_a_phone(gateway: Running, engine: ScriptedEngine, page: Page) -> None:
    page.open(gateway.url)
    page.wait("document.querySelector('#model').value")
    page.click("#compare")
    _ask(page, "能吃盐吗", 4)
    shown = page.evaluate("[...document.querySelectorAll('.answer')].map(one => one.dataset.model)")
    assert shown == ["base", "base-rag", "tuned", "tuned-rag"]
    assert {request["model"] for request in engine.requests} == {"model-b", "model-t"}
    tops = (
        "new Set([...document.querySelectorAll('.answer')].map(one => one.getBoundingClientRect().top)).size"
    )
    assert page.evaluate(tops) == 1
    # Long answers are followed only as far as the question stays in view.
    engine.texts = ["很长的回答。" * 20] * 20
    _ask(page, "再说", 4)
    turn = "[...document.querySelectorAll('.turn')].at(-1).getBoundingClientRect()"
    assert page.evaluate(
        f"Math.abs({turn}.top - document.querySelector('#log').getBoundingClientRect().top) < 2"
    )
    assert page.evaluate(f"{turn}.height > innerHeight")
    page.click("#fresh")
    engine.texts = ["好。"]
    _ask(page, "能吃盐吗", 4)
    page.size(390, 844, dark=True)
    assert page.evaluate(tops) == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = "[...document.querySelectorAll('header button, header select, #send')].filter(one => !one.hidden"
    assert page.evaluate(f"{small} && one.getBoundingClientRect().height < 44).length") == 0
    page.click("#language")
    assert page.text("#send") == "发送"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.click("#compare")
    page.evaluate("document.querySelector('#model').value = 'tuned'")
    _ask(page, "一")
    assert engine.requests[-1]["model"] == "model-t"
    assert page.faults == []


@pytest.mark.integration
def test_key_is_asked_for_and_kept_in_the_tab(
    engine: ScriptedEngine, gateway_settings: GatewaySettings, kept: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "web")
    access = Access(KeyRing(keys, time.monotonic), Budgets(time.time, time.monotonic))
    with (
        live_server(lambda _: engine.app) as engine_url,
        live_server(lambda client: gateway_app(client, engine_url, gateway_settings, kept, access)) as url,
        browser_page(tmp_path / "profile", "zh-CN") as page,
    ):
        for path in ("/v1/models", f"/kb/rows/{ROWS[0].row_id}", "/web/none"):
            assert httpx.get(url + path).status_code == 401
        page.open(url)
        page.wait("document.querySelector('#key-dialog').open")
        assert page.text("#key-title") == "此服务需要 API 密钥"
        page.type("gt-wrong")
        page.press("Enter")
        page.wait("!document.querySelector('#key-fault').hidden")
        assert "not valid" in page.text("#key-fault")
        page.type(secret)
        page.press("Enter")
        page.wait("document.querySelectorAll('#model option').length === 4")
        _ask(page, "要喝水吗")
        page.click(".mark")
        page.wait("document.querySelector('#row').open")
        assert page.text("#row-source") == ROWS[2].source
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
        # The refusals that led to the dialog are all that its console shows.
        assert all("401" in fault for fault in page.faults)
