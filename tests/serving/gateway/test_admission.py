"""Keys, budgets and limits, asked for over HTTP by many clients at once."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from serving.access.budgets import Budgets
from serving.access.keys import KeyRing, add_key
from serving.engines.engine import Engine
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Access
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from tests.serving.knowledge import ROWS, ThreeRows
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine

ASKED: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "好"}]}
SETTINGS = GatewaySettings(embedding_id="tiny", engine_timeout_s=10.0, ready_window_s=0.0)
LINES: list[str] = []


@contextlib.contextmanager
def _gateway(
    engine: ScriptedEngine,
    settings: GatewaySettings = SETTINGS,
    keys: Path | None = None,
    public_paths: tuple[str, ...] = ("/health/",),
) -> Iterator[str]:
    LINES.clear()
    access = None
    if keys is not None:
        budgets = Budgets(time.time, time.monotonic)
        access = Access(KeyRing(keys, time.monotonic), budgets, public_paths)
    knowledge = ThreeRows()
    with (
        live_server(lambda _: engine.app) as engine_url,
        live_server(
            lambda client: create_gateway(
                ModelTable(
                    [
                        ServedModel(
                            "base", Engine("base", f"{engine_url}/v1", "m", frozenset({"stream_options"}))
                        )
                    ]
                ),
                client=client,
                settings=settings,
                knowledge=knowledge,
                grounder=knowledge,
                access=access,
                observers=(AccessLog(LINES.append),),
            )
        ) as url,
    ):
        yield url


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The file of keys, empty so far."""
    return tmp_path / "keys.json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/vector_stores/kb/search"),
        ("GET", "/v1/models"),
        ("GET", f"/kb/rows/{ROWS[0].row_id}"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ],
)
def test_nothing_opens_without_a_key(engine: ScriptedEngine, keys: Path, method: str, path: str) -> None:
    secret = add_key(keys, "a")
    with _gateway(engine, keys=keys) as url, httpx.Client(base_url=url) as client:
        for headers in ({}, _bearer("wrong"), _bearer(secret + "x"), {"Authorization": f"Basic {secret}"}):
            response = client.request(method, path, headers=headers, json=ASKED if method == "POST" else None)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.request(method, path, headers=_bearer(secret)).status_code != 401
        assert client.get("/health/live").status_code == 200
    assert engine.requests == []


def test_clients_with_the_key_get_in(engine: ScriptedEngine, keys: Path) -> None:
    secret = add_key(keys, "a")
    with _gateway(engine, keys=keys, public_paths=("/health/", "/kb/rows/")) as url:
        with OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
            assert client.chat.completions.create(**ASKED).choices[0].message.content == "你好。"
        with (
            OpenAI(base_url=f"{url}/v1", api_key="sk-no", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError, match="not valid"),
        ):
            client.models.list()
        for name in ("api-key", "x-api-key"):
            assert httpx.get(f"{url}/v1/models", headers={name: secret}).status_code == 200
        assert httpx.get(f"{url}/kb/rows/{ROWS[0].row_id}").status_code == 200


def test_requests_a_minute_hold_when_all_ask_at_once(engine: ScriptedEngine, keys: Path) -> None:
    secret, other = add_key(keys, "a", requests_per_minute=7), add_key(keys, "b")
    with _gateway(engine, keys=keys) as url, httpx.Client(timeout=30) as client:

        def ask(_: int) -> httpx.Response:
            return client.post(f"{url}/v1/chat/completions", json=ASKED, headers=_bearer(secret))

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(40)))
        assert [answer.status_code for answer in answers].count(200) == 7
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert client.get(f"{url}/v1/models", headers=_bearer(other)).status_code == 200
    assert len(engine.requests) == 7


def test_tokens_a_day_hold_when_all_ask_at_once(engine: ScriptedEngine, keys: Path) -> None:
    # The scripted engine counts 105 tokens for each answer.
    engine.texts, engine.delay_s = ["字"] * 100, 0.001
    secret = add_key(keys, "a", tokens_per_day=1000)
    body = {**ASKED, "max_tokens": 100}
    with _gateway(engine, keys=keys) as url, httpx.Client(timeout=30) as client:

        def ask(number: int) -> httpx.Response:
            asked = {**body, "stream": number % 2 == 0}
            return client.post(f"{url}/v1/chat/completions", json=asked, headers=_bearer(secret))

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(32)))
        while (last := ask(1)).status_code == 200:
            answers.append(last)
        num_answered = [answer.status_code for answer in answers].count(200)
        # Each reserves its prompt's bytes and 100 tokens, and so what is left at the end may be as much.
        assert 105 * num_answered <= 1000
        assert num_answered >= 7
        assert last.json()["error"]["code"] == "tokens_per_day_exceeded"
        assert 0 < int(last.headers["retry-after"]) <= 86400
    assert len(engine.requests) == num_answered


def test_answers_that_clients_cut_off_are_charged(engine: ScriptedEngine, keys: Path) -> None:
    engine.texts, engine.delay_s = ["字"] * 200, 0.01
    secret = add_key(keys, "a", tokens_per_day=1000)
    with _gateway(engine, keys=keys) as url:
        for _ in range(3):
            body = {**ASKED, "max_tokens": 200, "stream": True}
            with httpx.stream(
                "POST", f"{url}/v1/chat/completions", json=body, headers=_bearer(secret)
            ) as response:
                assert response.status_code == 200
                lines = response.iter_lines()
                for _ in range(40):
                    next(lines)
        time.sleep(0.2)
        over = {**ASKED, "max_tokens": 920}
        response = httpx.post(f"{url}/v1/chat/completions", json=over, headers=_bearer(secret))
        assert response.status_code == 429
        assert "less" not in response.text
    assert all(json.loads(line)["error"] == "client_closed" for line in LINES[:3])


def test_more_than_fit_are_refused_at_once(engine: ScriptedEngine) -> None:
    engine.texts, engine.delay_s = ["字"] * 20, 0.1
    settings = replace(SETTINGS, max_running=2, max_waiting=2)
    with _gateway(engine, settings) as url, httpx.Client(timeout=30) as client, ThreadPoolExecutor(4) as pool:
        admitted = [pool.submit(client.post, f"{url}/v1/chat/completions", json=ASKED) for _ in range(4)]
        time.sleep(0.5)
        took_s = []
        for _ in range(20):
            started_s = time.perf_counter()
            response = client.post(f"{url}/v1/chat/completions", json=ASKED)
            took_s.append(time.perf_counter() - started_s)
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "overloaded"
        assert [future.result().status_code for future in admitted] == [200] * 4
    assert statistics.median(took_s) < 0.05


def test_all_requests_together_are_bounded(engine: ScriptedEngine) -> None:
    engine.delay_s = 0.3
    with _gateway(engine, replace(SETTINGS, max_requests=3)) as url, httpx.Client(timeout=30) as client:
        with ThreadPoolExecutor(9) as pool:
            answers = list(
                pool.map(
                    lambda _: client.post(f"{url}/v1/chat/completions", json=ASKED).status_code, range(9)
                )
            )
        assert sorted(answers) == [200] * 3 + [429] * 6
        # Nothing is held when all are over, refused ones included.
        assert client.post(f"{url}/v1/chat/completions", json=ASKED).status_code == 200
        assert client.get(f"{url}/v1/models").status_code == 200


def _chunks(size_bytes: int) -> Iterator[bytes]:
    for _ in range(size_bytes // 1000):
        yield b"x" * 1000


def test_large_bodies_are_refused_however_they_come(engine: ScriptedEngine) -> None:
    with _gateway(engine, replace(SETTINGS, max_body_bytes=10_000)) as url:
        for body in (b"x" * 20_000, _chunks(20_000)):
            response = httpx.post(
                f"{url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
            )
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"
        assert httpx.post(f"{url}/v1/chat/completions", json=ASKED).status_code == 200


def test_body_that_does_not_come(engine: ScriptedEngine) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"{"
        time.sleep(1)
        yield b"}"

    with _gateway(engine, replace(SETTINGS, body_timeout_s=0.2)) as url:
        response = httpx.post(f"{url}/v1/chat/completions", content=slowly())
    assert response.status_code == 408
    assert response.json()["error"]["code"] == "body_timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_answer_that_takes_too_long(engine: ScriptedEngine, stream: bool) -> None:
    engine.texts, engine.delay_s = ["字"] * 100, 0.05
    with _gateway(engine, replace(SETTINGS, request_timeout_s=0.5)) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json={**ASKED, "stream": stream})
        time.sleep(0.1)
        assert engine.num_open == 0
    assert response.status_code == (200 if stream else 504)
    assert '"code": "request_timeout"' in response.text.replace('":"', '": "')
    assert "[DONE]" not in response.text


def test_every_response_has_an_id_and_keeps_browsers_from_harm(engine: ScriptedEngine) -> None:
    with _gateway(engine) as url:
        for path in ("/v1/models", "/nothing", f"/kb/rows/{ROWS[0].row_id}"):
            response = httpx.get(f"{url}{path}", headers={"origin": "https://elsewhere.example"})
            assert response.headers["x-request-id"].startswith("req_")
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert "access-control-allow-origin" not in response.headers
        given = httpx.get(f"{url}/v1/models", headers={"x-request-id": "trace-1"})
        assert given.headers["x-request-id"] == "trace-1"
        given = httpx.get(f"{url}/v1/models", headers={"x-request-id": "bad id"})
        assert given.headers["x-request-id"].startswith("req_")


def test_pages_of_configured_origins_may_call(engine: ScriptedEngine, keys: Path) -> None:
    secret = add_key(keys, "a")
    origin = {"origin": "https://ours.example"}
    with _gateway(engine, replace(SETTINGS, cors_origins=(origin["origin"],)), keys) as url:
        preflight = {**origin, "access-control-request-method": "POST"}
        response = httpx.options(f"{url}/v1/chat/completions", headers=preflight)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin["origin"]
        response = httpx.get(f"{url}/v1/models", headers={**origin, **_bearer(secret)})
        assert response.headers["access-control-allow-origin"] == origin["origin"]
        response = httpx.get(
            f"{url}/v1/models", headers={"origin": "https://evil.example", **_bearer(secret)}
        )
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("log_prompts", [False, True])
def test_log_has_what_was_asked_only_where_it_shall(
    engine: ScriptedEngine, keys: Path, log_prompts: bool
) -> None:
    secret = add_key(keys, "ward-3")
    asked = {**ASKED, "messages": [{"role": "user", "content": "很私密的问题"}]}
    with _gateway(engine, replace(SETTINGS, log_prompts=log_prompts), keys) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=asked, headers=_bearer(secret))
        httpx.get(f"{url}/health/live")
    (line,) = LINES
    entry = json.loads(line)
    assert ("很私密的问题" in line) is log_prompts
    assert secret not in line
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["key"] == "ward-3"
    assert (entry["status"], entry["model"], entry["path"]) == (200, "base", "/v1/chat/completions")
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (5, 3)
    assert 0 < entry["ttft_ms"] <= entry["duration_ms"]
