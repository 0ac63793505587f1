"""Whatever goes wrong, the client reads OpenAI's error object."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from serving.engines.engine import Engine
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from tests.serving.conftest import Running
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine

CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "好"}]}


def _error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert response.headers["x-kb-version"]
    return dict(error)


@pytest.mark.parametrize(
    ("change", "param", "told"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "robot|Input should be"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 0}, "max_tokens", "greater than"),
        ({"n": 2}, "n", "not supported by the model 'base'"),
        ({"model": "tuned", "logprobs": True}, "logprobs", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"colour": "blue"}, "colour", "not supported"),
        ({"model": "base-rag", "tools": [{"type": "function"}]}, "tools", "grounded model 'base-rag'"),
        ({"model": "base-rag", "messages": [{"role": "user", "content": " "}]}, "messages", "user message"),
    ],
)
def test_request_that_cannot_be_answered(
    gateway: Running, change: dict[str, Any], param: str, told: str
) -> None:
    error = _error(httpx.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, **change}), 400)
    assert error["param"] == param
    assert any(text in error["message"] for text in told.split("|"))


def test_pictures_are_refused(gateway: Running) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {**CHAT, "messages": [{"role": "user", "content": [part]}]}
    assert _error(httpx.post(f"{gateway.url}/v1/chat/completions", json=body), 400)


def test_all_faults_are_told_at_once(gateway: Running) -> None:
    body = {**CHAT, "temperature": 3, "max_tokens": 0}
    message = _error(httpx.post(f"{gateway.url}/v1/chat/completions", json=body), 400)["message"]
    assert "temperature:" in message
    assert "max_tokens:" in message


@pytest.mark.parametrize(
    "field",
    [
        {"n": 1},
        {"logprobs": False},
        {"user": "u"},
        {"response_format": {"type": "text"}},
        {"stop": None},
        {"seed": 1},
    ],
)
def test_fields_that_change_nothing_are_accepted(gateway: Running, field: dict[str, Any]) -> None:
    body = {**CHAT, **field, "model": "tuned"}
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=body).status_code == 200


def test_body_that_is_not_json(gateway: Running) -> None:
    headers = {"content-type": "application/json"}
    _error(httpx.post(f"{gateway.url}/v1/chat/completions", content=b"{", headers=headers), 400)


def test_unknown_model_names_those_there_are(gateway: Running) -> None:
    error = _error(httpx.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, "model": "gpt-4"}), 404)
    assert error["code"] == "model_not_found"
    assert "base, base-rag, tuned, tuned-rag" in error["message"]


def test_unknown_route_and_method(gateway: Running) -> None:
    assert "/v1/images" in _error(httpx.get(f"{gateway.url}/v1/images"), 404)["message"]
    _error(httpx.get(f"{gateway.url}/v1/chat/completions"), 405)


@pytest.mark.parametrize(
    ("status", "body", "seen", "told"),
    [
        (400, {"error": {"message": "too hot"}}, 400, "too hot"),
        (422, {"detail": "Unexpected fields"}, 400, "Unexpected fields"),
        (400, {"object": "error", "message": "flat, as LMDeploy has it"}, 400, "flat"),
        (401, {"error": {"message": "bad key"}}, 502, "bad key"),
        (429, {"error": {"message": "busy"}}, 429, "busy"),
        (500, {"oops": 1}, 502, "oops"),
        (503, {"error": "CB worker is dead"}, 503, "CB worker is dead"),
    ],
)
def test_errors_of_engines(
    gateway: Running, engine: ScriptedEngine, status: int, body: dict[str, Any], seen: int, told: str
) -> None:
    engine.status, engine.error_body = status, body
    assert told in _error(httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT), seen)["message"]


def test_prompt_longer_than_the_context_never_reaches_the_engine(
    gateway: Running, engine: ScriptedEngine
) -> None:
    body = {"model": "tuned", "messages": [{"role": "user", "content": "长" * 500}]}
    error = _error(httpx.post(f"{gateway.url}/v1/chat/completions", json=body), 400)
    assert error["code"] == "context_length_exceeded"
    assert engine.requests == []


def test_engine_that_is_not_there() -> None:
    engine = Engine("base", "http://127.0.0.1:9/v1", "m", frozenset())
    models = ModelTable([ServedModel("base", engine)])
    with live_server(lambda client: create_gateway(models, client=client, settings=GatewaySettings())) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True})
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_unavailable"
        ready = httpx.get(f"{url}/health/ready")
        assert ready.status_code == 503
        assert "ConnectError" in ready.json()["engines"]["base"]
        assert ready.json()["error"]["code"] == "engine_unavailable"
        assert httpx.get(f"{url}/health/live").status_code == 200


def test_defect_has_the_shape_too(
    gateway: Running, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("tests.serving.knowledge.ThreeRows.ground", broken)
    body = {**CHAT, "model": "base-rag"}
    error = _error(httpx.post(f"{gateway.url}/v1/chat/completions", json=body), 500)
    assert "secret" not in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_embedding_server_that_is_down_is_a_503(gateway: Running, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.client.with_options(max_retries=0).chat.completions.create(
            model="base-rag", messages=[{"role": "user", "content": "断线了吗"}], stream=stream
        )
    assert caught.value.status_code == 503
    assert caught.value.code == "embedding_unavailable"
    assert "cannot be reached" in caught.value.message
