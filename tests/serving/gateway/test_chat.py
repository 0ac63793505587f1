"""/v1/chat/completions through OpenAI's own client, in front of an engine whose answers are written here."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import openai
import pytest

from rag.unanswered import read_unanswered
from tests.serving.conftest import Running
from tests.serving.knowledge import REFUSAL, ROWS
from tests.serving.scripted_engine import ScriptedEngine

QUESTION = [{"role": "user", "content": "高血压能吃盐吗"}]


def test_whole_answer(gateway: Running, engine: ScriptedEngine) -> None:
    answer = gateway.client.chat.completions.create(model="base", messages=QUESTION)
    assert answer.object == "chat.completion"
    assert answer.model == "base"
    assert answer.choices[0].message.content == "你好。"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8
    (request,) = engine.requests
    assert request["model"] == "model-b"
    assert request["max_tokens"] == 512
    assert request["temperature"] == 0
    assert request["stream_options"] == {"include_usage": True}


def test_streamed_answer_with_usage_last(gateway: Running) -> None:
    stream = gateway.client.chat.completions.create(
        model="base", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "你好。"
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert len({c.id for c in chunks}) == 1


def test_a_load_tool_may_ask_for_counts_in_every_chunk_and_gets_them_at_the_end(gateway: Running) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "base", "messages": QUESTION, "stream": True, "stream_options": options}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert response.status_code == 200 and '"completion_tokens":3' in response.text.replace(" ", "")
    body["stream_options"] = {"include_usages": True}
    refused = httpx.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert refused.status_code == 400 and "include_usages" in refused.text


def test_stream_on_the_wire(gateway: Running) -> None:
    body = {"model": "base", "messages": QUESTION, "stream": True}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: {") for line in lines[:-1])
    assert '"usage"' not in response.text
    assert "你" in response.text


def test_unicode_line_ends_inside_a_text(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts = ["一\u2028二", "\x85三\u2029\n四\r\n"]
    answer = gateway.client.chat.completions.create(model="base", messages=QUESTION)
    assert answer.choices[0].message.content == "".join(engine.texts)
    body = {"model": "base", "messages": QUESTION, "stream": True}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as response:
        lines = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in lines) == "".join(engine.texts)


def test_timing_and_version_are_in_the_headers(gateway: Running) -> None:
    for model, stages in (("base", ["ttft", "total"]), ("base-rag", ["embed", "retrieve", "ttft", "total"])):
        raw = gateway.client.chat.completions.with_raw_response.create(model=model, messages=QUESTION)
        timed = dict(part.strip().split(";dur=") for part in raw.headers["server-timing"].split(","))
        assert list(timed) == stages
        assert float(timed["total"]) >= float(timed["ttft"]) > 0
        assert raw.headers["x-kb-version"] == "abc123def456"
    with gateway.client.chat.completions.with_streaming_response.create(
        model="base", messages=QUESTION, stream=True
    ) as streamed:
        assert "ttft;dur=" in streamed.headers["server-timing"]
        assert streamed.headers["x-kb-version"] == "abc123def456"


def test_system_prompt_is_added_only_where_there_is_none(gateway: Running, engine: ScriptedEngine) -> None:
    gateway.client.chat.completions.create(model="tuned", messages=QUESTION)
    own = [{"role": "developer", "content": "Be brief."}, *QUESTION]
    gateway.client.chat.completions.create(model="tuned", messages=own)
    assert engine.requests[0]["messages"] == [{"role": "system", "content": "你是医生。"}, *QUESTION]
    assert engine.requests[1]["messages"] == [{"role": "system", "content": "Be brief."}, *QUESTION]


def test_text_parts_become_text(gateway: Running, engine: ScriptedEngine) -> None:
    parts = [{"type": "text", "text": "高血压"}, {"type": "text", "text": "能吃盐吗"}]
    gateway.client.chat.completions.create(model="base", messages=[{"role": "user", "content": parts}])
    assert engine.requests[0]["messages"][-1]["content"] == "高血压\n能吃盐吗"


@pytest.mark.parametrize("stream", [False, True])
def test_citations(gateway: Running, engine: ScriptedEngine, stream: bool) -> None:
    engine.texts = ["每天不超过五克", "[", "1", "]。多喝水[3]", "[7]。"]
    if stream:
        chunks = list(
            gateway.client.chat.completions.create(model="base-rag", messages=QUESTION, stream=True)
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        (carrier,) = [c for c in chunks if "annotations" in (c.choices[0].delta.model_extra or {})]
        assert chunks.index(carrier) == len(chunks) - 2
        assert carrier.choices[0].delta.content == ""
        message, top_level = carrier.choices[0].delta.model_dump(), carrier.model_dump()
    else:
        answer = gateway.client.chat.completions.create(model="base-rag", messages=QUESTION)
        text = answer.choices[0].message.content or ""
        assert answer.choices[0].message.annotations is not None
        message, top_level = answer.choices[0].message.model_dump(), answer.model_dump()
    marked = [
        a["url_citation"] for a in message["annotations"] if "[" in text[a["url_citation"]["start_index"]]
    ]
    assert [text[c["start_index"] : c["end_index"]] for c in marked] == ["[1]", "[3]"]
    assert [c["title"] for c in marked] == [ROWS[0].title, ROWS[2].title]
    assert marked[0]["url"] == f"{gateway.url}/kb/rows/{ROWS[0].row_id}"
    assert httpx.get(marked[0]["url"]).json()["answer"] == ROWS[0].answer
    context = message["context"]
    assert context["no_answer"] is False
    assert [c["chunk_id"] for c in context["citations"]] == [row.row_id for row in ROWS]
    assert set(context["citations"][0]) >= {"content", "title", "url", "filepath", "chunk_id"}
    assert top_level["citations"][0] == marked[0]["url"]
    assert [r["title"] for r in top_level["search_results"]] == [row.title for row in ROWS]
    assert engine.requests[0]["messages"][0]["content"] == "rows"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_a_source_gives_way_to_the_row(
    gateway: Running, engine: ScriptedEngine, stream: bool
) -> None:
    engine.texts = ["当", "然"]
    asked = [{"role": "user", "content": "糖尿病可以吃水果吗"}]
    if stream:
        chunks = list(gateway.client.chat.completions.create(model="base-rag", messages=asked, stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        message = next(d for d in (c.choices[0].delta.model_dump() for c in chunks) if "context" in d)
    else:
        answer = gateway.client.chat.completions.create(model="base-rag", messages=asked)
        text, message = answer.choices[0].message.content or "", answer.choices[0].message.model_dump()
    assert text == f"血糖平稳时可以吃低糖水果[2]。\n\n另请参阅：{ROWS[2].question}[3]"
    assert message["context"]["quoted"] is True
    marks = [a["url_citation"] for a in message["annotations"]]
    assert [text[m["start_index"] : m["end_index"]] for m in marks] == ["[2]", "[3]"]


def test_a_client_that_limits_or_stops_the_text_gets_it_as_it_is(
    gateway: Running, engine: ScriptedEngine
) -> None:
    asked = [{"role": "user", "content": "糖尿病可以吃水果吗"}]
    engine.texts, engine.finish_reason = ["当", "然"], "length"
    cut = gateway.client.chat.completions.create(model="base-rag", messages=asked, max_tokens=2)
    assert cut.choices[0].message.content == "当然"
    engine.texts, engine.finish_reason = ["当", "然", "啊"], "stop"
    stopped = gateway.client.chat.completions.create(model="base-rag", messages=asked, stop=["啊"])
    assert stopped.choices[0].message.content == "当然"


@pytest.mark.parametrize("stream", [False, True])
def test_refusal_asks_no_engine(gateway: Running, engine: ScriptedEngine, stream: bool) -> None:
    asked = [{"role": "user", "content": "今天天气怎么样"}]
    if stream:
        chunks = list(gateway.client.chat.completions.create(model="tuned-rag", messages=asked, stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        message = next(d for d in (c.choices[0].delta.model_dump() for c in chunks) if "context" in d)
        finish_reason = chunks[-1].choices[0].finish_reason
    else:
        answer = gateway.client.chat.completions.create(model="tuned-rag", messages=asked)
        text = answer.choices[0].message.content or ""
        message, finish_reason = answer.choices[0].message.model_dump(), answer.choices[0].finish_reason
    assert text == REFUSAL
    assert finish_reason == "stop"
    assert message["annotations"] == []
    assert message["context"]["no_answer"] is True
    assert "nearest" not in message["context"]
    assert engine.requests == []


def test_a_refusal_leads_to_the_row_that_may_be_meant(gateway: Running) -> None:
    asked = [{"role": "user", "content": "今天天气对高血压有影响吗"}]
    message = gateway.client.chat.completions.create(model="base-rag", messages=asked).choices[0].message
    context = message.model_dump()["context"]
    assert context["no_answer"] is True and context["citations"] == []
    assert context["nearest"]["chunk_id"] == ROWS[1].row_id
    page = httpx.get(context["nearest"]["url"], headers={"Accept": "text/html"})
    assert page.status_code == 200 and ROWS[1].answer in page.text


def test_questions_without_an_answer_are_kept(gateway: Running, engine: ScriptedEngine, kept: Path) -> None:
    def ask(question: str) -> None:
        gateway.client.chat.completions.create(
            model="base-rag", messages=[{"role": "user", "content": question}]
        )

    ask("高血压能吃盐吗")
    assert not kept.exists()
    ask("今天天气怎么样")
    engine.texts = ["抱歉，资料里没有提到。"]
    ask("高血压能吃盐吗")
    found = read_unanswered(kept)
    assert [(each.question, each.reason) for each in found] == [
        ("今天天气怎么样", "refused"),
        ("高血压能吃盐吗", "declined"),
    ]
    assert found[0].kb_version == "abc123def456"
    kept.unlink()
    kept.mkdir()
    ask("今天天气怎么样")


@pytest.mark.parametrize("stream", [False, True])
def test_a_cell_is_given_word_for_word_without_an_engine(
    gateway: Running, engine: ScriptedEngine, stream: bool
) -> None:
    asked = [{"role": "user", "content": "感冒要多喝水吗"}]
    if stream:
        chunks = list(gateway.client.chat.completions.create(model="tuned-rag", messages=asked, stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        message = next(d for d in (c.choices[0].delta.model_dump() for c in chunks) if "context" in d)
    else:
        answer = gateway.client.chat.completions.create(model="tuned-rag", messages=asked)
        text, message = answer.choices[0].message.content or "", answer.choices[0].message.model_dump()
        assert answer.usage is not None
        assert answer.usage.total_tokens == 0
    assert text == ROWS[2].answer + "[3]"
    assert (message["context"]["quoted"], message["context"]["no_answer"]) == (True, False)
    (mark,) = (a["url_citation"] for a in message["annotations"])
    assert text[mark["start_index"] : mark["end_index"]] == "[3]"
    assert mark["url"] == f"{gateway.url}/kb/rows/{ROWS[2].row_id}"
    assert engine.requests == []


def test_a_cell_that_may_not_fit_is_left_to_the_engine(gateway: Running, engine: ScriptedEngine) -> None:
    asked = [{"role": "user", "content": "感冒要多喝水吗"}]
    gateway.client.chat.completions.create(model="tuned-rag", messages=asked, max_tokens=4)
    gateway.client.chat.completions.create(model="tuned-rag", messages=asked, stop=["。"])
    assert len(engine.requests) == 2


def test_a_filter_limits_the_rows(gateway: Running) -> None:
    def rows(only: dict[str, object], model: str = "base-rag") -> list[str]:
        answer = gateway.client.chat.completions.create(
            model=model, messages=QUESTION, extra_body={"groundtune": {"filter": only}}
        )
        return [c["chunk_id"] for c in answer.choices[0].message.model_dump()["context"]["citations"]]

    assert rows({"info_1": "糖尿病"}) == [ROWS[1].row_id]
    assert rows({"info_1": ["糖尿病", "感冒"], "info_2": "饮食"}) == [ROWS[1].row_id, ROWS[2].row_id]
    with pytest.raises(openai.BadRequestError, match="高血糖") as unknown:
        rows({"info_1": "高血糖"})
    assert unknown.value.param == "groundtune.filter"
    with pytest.raises(openai.BadRequestError, match="not grounded"):
        rows({"info_1": "糖尿病"}, model="base")
    with pytest.raises(openai.BadRequestError, match="info_3"):
        rows({"info_3": "糖尿病"})


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_are_watched_for_engines_that_do_not(
    gateway: Running, engine: ScriptedEngine, stream: bool
) -> None:
    engine.texts = ["一", "二E", "N", "D三", "四"]
    if stream:
        chunks = gateway.client.chat.completions.create(
            model="tuned", messages=QUESTION, stop=["END"], stream=True
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
    else:
        answer = gateway.client.chat.completions.create(model="tuned", messages=QUESTION, stop=["END"])
        text = answer.choices[0].message.content or ""
        assert answer.choices[0].finish_reason == "stop"
    assert text == "一二"
    assert "stop" not in engine.requests[0]


@pytest.mark.parametrize("model", ["base", "base-rag"])
@pytest.mark.parametrize("stream", [False, True])
def test_client_that_goes_stops_the_engine(
    gateway: Running, engine: ScriptedEngine, model: str, stream: bool
) -> None:
    engine.texts, engine.delay_s = ["字"] * 200, 0.05
    body = {"model": model, "messages": QUESTION, "stream": stream}
    if stream:
        with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=0.3)
    deadline = time.monotonic() + 2
    while engine.num_open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.num_open == 0
    assert engine.num_cancelled == 1


def test_engine_that_dies_in_the_middle_of_a_stream(gateway: Running, engine: ScriptedEngine) -> None:
    engine.stop_after = 2
    body = {"model": "base", "messages": QUESTION, "stream": True}
    response = httpx.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    assert '"code": "engine_unavailable"' in response.text
    with pytest.raises(openai.APIError, match="engine 'base' is not available"):
        list(gateway.client.chat.completions.create(model="base", messages=QUESTION, stream=True))


def test_engine_that_dies_in_the_middle_of_a_whole_answer(gateway: Running, engine: ScriptedEngine) -> None:
    engine.stop_after = 2
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.client.chat.completions.create(model="base", messages=QUESTION)
    assert caught.value.status_code == 503


def test_engine_that_tells_of_its_failure_in_the_stream(gateway: Running, engine: ScriptedEngine) -> None:
    engine.error_after = 0
    with pytest.raises(openai.APIStatusError, match="out of memory") as caught:
        gateway.client.chat.completions.create(model="base", messages=QUESTION, stream=True)
    assert caught.value.status_code == 502


def test_silent_engine(gateway: Running, engine: ScriptedEngine) -> None:
    engine.delay_s = 30
    with pytest.raises(openai.APIStatusError, match="sent nothing for 2 s") as caught:
        gateway.client.chat.completions.create(model="base", messages=QUESTION, stream=True)
    assert caught.value.status_code == 504
    assert caught.value.code == "engine_timeout"
