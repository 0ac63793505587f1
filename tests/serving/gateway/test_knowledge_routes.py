"""Models, rows, search, embeddings, plain completions, health: the smaller routes."""

from __future__ import annotations

import httpx
import openai
import pytest

from serving.gateway.rows import prefers_html
from tests.serving.conftest import Running
from tests.serving.knowledge import ROWS
from tests.serving.scripted_engine import ScriptedEngine


def test_models(gateway: Running) -> None:
    ids = [model.id for model in gateway.client.models.list()]
    assert ids == ["base", "base-rag", "tuned", "tuned-rag", "tiny-embedding"]
    assert gateway.client.models.retrieve("tuned-rag").id == "tuned-rag"
    with pytest.raises(openai.NotFoundError):
        gateway.client.models.retrieve("gpt-4")


def test_row_as_json_and_as_a_page(gateway: Running) -> None:
    url = f"{gateway.url}/kb/rows/{ROWS[0].row_id}"
    as_json = httpx.get(url)
    assert as_json.json()["answer"] == ROWS[0].answer
    assert as_json.json()["source"] == ROWS[0].source
    page = httpx.get(url, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "&lt;5&gt;" in page.text
    assert ROWS[0].question in page.text
    missing = httpx.get(f"{gateway.url}/kb/rows/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "row_not_found"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html;q=0.5", False),
        ("text/*;q=0.9, application/json;q=0.1", True),
        ("text/html;q=none", False),
    ],
)
def test_who_gets_a_page(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def test_search(gateway: Running) -> None:
    page = gateway.client.vector_stores.search("kb", query="盐", max_num_results=2)
    assert [result.file_id for result in page.data] == [row.row_id for row in ROWS[:2]]
    assert page.data[0].content[0].text == ROWS[0].answer
    assert page.data[0].score > page.data[1].score
    part = {"groundtune": {"filter": {"info_1": "感冒"}}}
    filtered = gateway.client.vector_stores.search("kb", query="盐", extra_body=part)
    assert [result.file_id for result in filtered.data] == [ROWS[2].row_id]
    with pytest.raises(openai.BadRequestError, match="无"):
        wrong = {"groundtune": {"filter": {"info_2": "无"}}}
        gateway.client.vector_stores.search("kb", query="盐", extra_body=wrong)
    both = gateway.client.vector_stores.search("kb", query=["盐", "糖"])
    assert len(both.data) == len(ROWS)
    with pytest.raises(openai.NotFoundError, match="there is 'kb'"):
        gateway.client.vector_stores.search("other", query="盐")


def test_embeddings(gateway: Running) -> None:
    floats = gateway.client.embeddings.create(
        model="tiny-embedding", input=["一", "二三"], encoding_format="float"
    )
    packed = gateway.client.embeddings.create(model="tiny-embedding", input=["一", "二三"])
    assert [item.embedding for item in floats.data] == [[1.0, 0.5], [2.0, 0.5]]
    assert [list(item.embedding) for item in packed.data] == [[1.0, 0.5], [2.0, 0.5]]
    passage = gateway.client.embeddings.create(
        model="tiny-embedding", input="一", encoding_format="float", extra_body={"input_type": "passage"}
    )
    assert passage.data[0].embedding == [1.0, -0.5]
    with pytest.raises(openai.NotFoundError, match="tiny-embedding"):
        gateway.client.embeddings.create(model="ada", input="一")
    for wrong in ({"input": ""}, {"input": "一", "dimensions": 3}, {"input": [1, 2]}):
        with pytest.raises(openai.BadRequestError):
            gateway.client.embeddings.create(model="tiny-embedding", **wrong)


@pytest.mark.parametrize("stream", [False, True])
def test_plain_completions(gateway: Running, engine: ScriptedEngine, stream: bool) -> None:
    if stream:
        chunks = gateway.client.completions.create(model="base", prompt="从前", stream=True)
        text = "".join(chunk.choices[0].text for chunk in chunks)
    else:
        text = gateway.client.completions.create(model="base", prompt="从前", max_tokens=7).choices[0].text
        assert engine.requests[0]["max_tokens"] == 7
    assert text == "你好。"
    assert engine.requests[0]["prompt"] == "从前"
    with pytest.raises(openai.BadRequestError, match="chat/completions only"):
        gateway.client.completions.create(model="base-rag", prompt="从前")


def test_ready_means_a_token_now(gateway: Running, engine: ScriptedEngine) -> None:
    assert httpx.get(f"{gateway.url}/health/ready").json() == {
        "status": "ready",
        "engines": {"base": "ready", "tuned": "ready"},
    }
    assert engine.requests[0]["max_tokens"] == 1
    engine.status, engine.error_body = 500, {"detail": "broken"}
    response = httpx.get(f"{gateway.url}/health/ready")
    assert response.status_code == 503
    assert "broken" in response.json()["engines"]["base"]
