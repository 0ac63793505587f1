from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from serving.gateway.metrics import route_of
from tests.serving.conftest import Running
from tests.serving.scripted_engine import ScriptedEngine


def _samples(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = httpx.get(f"{url}/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(url: str, name: str, **labels: str) -> float:
    return _samples(url).get((f"groundtune_{name}", frozenset(labels.items())), 0.0)


def test_what_happened_is_counted(gateway: Running, engine: ScriptedEngine) -> None:
    def ask(model: str, text: str = "高血压能吃盐吗", stream: bool = False) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body)

    engine.delay_s = 0.01
    ask("base")
    ask("base", stream=True)
    ask("base-rag")
    ask("base-rag", "今天天气怎么样")
    ask("no-such-model-of-a-client")
    engine.stop_after = 1
    ask("base", stream=True)
    url = gateway.url
    assert _value(url, "requests_total", route="chat", model="base", status="200") == 3
    assert _value(url, "requests_total", route="chat", model="base-rag", status="200") == 2
    assert _value(url, "requests_total", route="chat", model="", status="404") == 1
    assert _value(url, "request_errors_total", route="chat", model="base", code="engine_unavailable") == 1
    assert _value(url, "refusals_total", model="base-rag") == 1
    assert _value(url, "tokens_total", model="base", kind="completion") == 6
    assert _value(url, "tokens_total", model="base", kind="prompt") == 10
    assert _value(url, "time_to_first_token_seconds_count", model="base") == 3
    assert _value(url, "time_per_output_token_seconds_count", model="base") == 2
    assert 0.01 < _value(url, "time_per_output_token_seconds_sum", model="base") < 1
    assert _value(url, "retrieval_stage_seconds_count", stage="retrieve") == 2
    assert _value(url, "requests_in_flight", engine="base") == 0
    assert _value(url, "queue_depth", engine="tuned") == 0
    assert "no-such-model" not in httpx.get(f"{url}/metrics").text


def test_requests_under_way_are_seen(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts, engine.delay_s = ["字"] * 100, 0.02
    body = {"model": "base", "messages": [{"role": "user", "content": "好"}], "stream": True}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert _value(gateway.url, "requests_in_flight", engine="base") == 1


def test_routes_have_few_names() -> None:
    assert route_of("/v1/models/base") == "models"
    assert route_of("/v1/modelsx") == "other"
    assert route_of("/kb/rows/abc") == "rows"
    assert route_of("/wp-admin.php") == "other"
