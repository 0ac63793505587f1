"""Asks an engine and reads its answer, piece by piece.

Engines are always asked for a stream, also where the client did not: closing a stream is the one way that
makes every engine stop generating for a client that has gone.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import httpx

from serving.engines.client import EngineClient
from serving.engines.engine import Engine
from serving.gateway.errors import ApiError, bad_request, engine_down, engine_silent

_CONNECT_S = 10.0


@dataclass(frozen=True)
class Text:
    """A piece of the answer's text, never empty. `more`: the next piece is there already and follows at once."""

    text: str
    more: bool = False


@dataclass(frozen=True)
class Extra:
    """Other fields of the answer's message: tool calls, reasoning; or the citations that the gateway adds."""

    fields: Mapping[str, Any]
    top_level: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LogProbs:
    """The log-probabilities of the model's own tokens, in the shape of the API that was asked."""

    lists: Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """The answer is complete. `usage` is None where nobody counted."""

    finish_reason: str
    usage: Mapping[str, Any] | None


Piece = Text | Extra | LogProbs | End
Pieces = AsyncGenerator[Piece, None]


async def ask_engine(
    client: httpx.AsyncClient,
    engine: Engine,
    base_url: str,
    path: str,
    body: Mapping[str, Any],
    timeout_s: float,
) -> Pieces:
    """Yield the pieces of the engine's answer to `body`, End last. Closing the generator cancels the request.

    Args:
        base_url: The server of the engine to ask.
        path: `chat/completions` or `completions`.
        timeout_s: Longest silence, before the first piece and between two.

    Raises:
        ApiError: the engine is down (503), silent (504), refuses (400) or fails (502). May come after pieces.
    """
    sent = {**body, "model": engine.model, "stream": True}
    if "stream_options" in engine.accepts:
        sent["stream_options"] = {"include_usage": True}
    reason, usage = None, None
    try:
        async with _posted(client, engine, f"{base_url}/{path}", sent, timeout_s) as answer:
            if answer.status != HTTPStatus.OK:
                raise _refusal(engine, answer.status, await answer.read())
            async for lines in _lines(answer.parts()):
                read = _read(engine, lines)
                for piece in read.pieces:
                    yield piece
                reason, usage = read.reason or reason, read.usage or usage
                if read.fault is not None:
                    raise read.fault
    except (httpx.TimeoutException, TimeoutError) as error:
        raise engine_silent(engine.name, timeout_s) from error
    except (httpx.HTTPError, OSError) as error:
        raise engine_down(engine.name, f"{type(error).__name__} {error}".strip()) from error
    if reason is None:
        raise engine_down(engine.name, "it ended its answer half-way")
    yield End(reason, usage)


class _Answer(Protocol):
    """A response whose body is still coming."""

    @property
    def status(self) -> int:
        """HTTP status."""

    def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""

    async def read(self) -> bytes:
        """Return the whole body."""


class _GeneralAnswer:
    """The general client's response."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.parts = response.aiter_bytes
        self.read = response.aread


@asynccontextmanager
async def _posted(
    client: httpx.AsyncClient, engine: Engine, url: str, sent: Mapping[str, Any], timeout_s: float
) -> AsyncIterator[_Answer]:
    """Post, with the lean client where it can; yields the answer once its head has come."""
    connect_s = min(timeout_s, _CONNECT_S)
    wire = client.wire_to(url) if isinstance(client, EngineClient) else None
    if wire is not None:
        content = json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        async with wire.post(
            url, content, engine.headers, connect_s=connect_s, silence_s=timeout_s
        ) as answer:
            yield answer
        return
    limits = httpx.Timeout(timeout_s, connect=connect_s)
    async with client.stream("POST", url, json=sent, headers=engine.headers, timeout=limits) as response:
        yield _GeneralAnswer(response)


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield the lines that end in each part. httpx's own splits also at U+2028 and U+0085, which JSON may hold."""
    held = b""
    async for part in parts:
        *lines, held = (held + part).split(b"\n")
        yield lines
    yield [held]


@dataclass
class _Read:
    """What one read from an engine brought; a fault comes after the pieces in front of it."""

    pieces: list[Piece] = field(default_factory=list)
    reason: str | None = None
    usage: Mapping[str, Any] | None = None
    fault: ApiError | None = None


def _read(engine: Engine, lines: Sequence[bytes]) -> _Read:
    read = _Read()
    for line in lines:
        try:
            chunk = _chunk(engine, line)
        except ApiError as error:
            read.fault = error
            break
        read.usage = chunk.get("usage") or read.usage
        for choice in chunk.get("choices") or ():
            read.pieces += _pieces(choice)
            read.reason = choice.get("finish_reason") or read.reason
    for place, piece in enumerate(read.pieces[:-1]):
        if isinstance(piece, Text):
            read.pieces[place] = Text(piece.text, more=True)
    return read


def _chunk(engine: Engine, line: bytes) -> Mapping[str, Any]:
    """Return the JSON of one line of the event stream, or {} for a line without any."""
    kind, _, data = line.partition(b":")
    text = data.strip().decode(errors="replace")
    if kind != b"data" or not text or text == "[DONE]":
        return {}
    try:
        chunk = json.loads(text)
    except ValueError:
        raise ApiError(HTTPStatus.BAD_GATEWAY, f"engine {engine.name!r} sent {text[:200]!r}") from None
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise ApiError(HTTPStatus.BAD_GATEWAY, f"engine {engine.name!r} failed: {_message(chunk, text)}")
    return chunk


def _pieces(choice: Mapping[str, Any]) -> list[Piece]:
    """Return what a chunk's choice brings; chat has it in `delta`, plain completions in `text`."""
    delta = choice.get("delta") or {}
    text = choice.get("text") or delta.get("content") or ""
    others = {
        name: value
        for name, value in delta.items()
        if name not in ("role", "content") and value not in (None, [])
    }
    pieces: list[Piece] = [Text(text)] if text else []
    if others:
        pieces.append(Extra(others))
    if logprobs := choice.get("logprobs"):
        pieces.append(LogProbs(logprobs))
    return pieces


def _refusal(engine: Engine, status: int, content: bytes) -> ApiError:
    text = content.decode(errors="replace")
    try:
        message = _message(json.loads(text), text)
    except ValueError:
        message = text[:500]
    told = f"engine {engine.name!r} answered {status}: {message}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ApiError(status, told, code="engine_busy")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return engine_down(engine.name, message)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
    ):
        return bad_request(told, code="engine_refused")
    # The client can do nothing about the gateway's key or the engine's model id.
    return ApiError(HTTPStatus.BAD_GATEWAY, told, code="engine_failed")


def _message(body: Any, text: str) -> str:
    """Find the message in an engine's error, whichever of the usual shapes it has."""
    if isinstance(body, dict):
        error = body.get("error") or body.get("detail") or body.get("message")
        if isinstance(error, dict):
            error = error.get("message")
        if error:
            return str(error)
    return text[:500]
