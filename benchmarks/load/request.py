"""A question as the bytes of an HTTP request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.connection import Address
from benchmarks.load.prompts import Prompt


@dataclass(frozen=True)
class RequestSettings:
    """What every request asks for. `extra` is laid over the body, as in {"ignore_eos": true}.

    With `length_spread` s, `max_tokens` is the mean of the lengths asked for, which lie evenly between (1 - s) and
    (1 + s) times that: answers of one length end together, and the next requests then come in one burst.
    """

    model: str
    max_tokens: int
    api_key: str | None = None
    with_usage: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    length_spread: float = 0.0


def chat_requests(questions: Sequence[Prompt], address: Address, settings: RequestSettings) -> list[bytes]:
    """Return a streamed chat completion for each question, greedy unless `extra` says otherwise."""
    return [
        _chat_request(question, address, settings, _length(number, settings))
        for number, question in enumerate(questions)
    ]


def _length(number: int, settings: RequestSettings) -> int:
    """Return the longest answer of the request of that number, from 0."""
    # The multiples of the golden ratio fill the unit interval evenly, wherever one begins and ends.
    place = (number + 0.5) * 0.6180339887498949 % 1
    return max(1, round(settings.max_tokens * (1 + settings.length_spread * (2 * place - 1))))


def _chat_request(question: Prompt, address: Address, settings: RequestSettings, max_tokens: int) -> bytes:
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": "user", "content": question}] if isinstance(question, str) else list(question),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }
    if settings.with_usage:
        body["stream_options"] = {"include_usage": True}
    content = json.dumps({**body, **settings.extra}, ensure_ascii=False).encode()
    lines = [
        f"POST {address.path}/chat/completions HTTP/1.1",
        f"Host: {address.authority}",
        "User-Agent: groundtune-bench",
        "Accept: text/event-stream",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    if settings.api_key:
        lines.append(f"Authorization: Bearer {settings.api_key}")
    return "\r\n".join([*lines, "", ""]).encode() + content
