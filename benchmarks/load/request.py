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
    """What every request asks for. `extra` is laid over the body, as in {"ignore_eos": true}."""

    model: str
    max_tokens: int
    api_key: str | None = None
    with_usage: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


def chat_requests(questions: Sequence[Prompt], address: Address, settings: RequestSettings) -> list[bytes]:
    """Return a streamed chat completion for each question, greedy unless `extra` says otherwise."""
    return [_chat_request(question, address, settings) for question in questions]


def _chat_request(question: Prompt, address: Address, settings: RequestSettings) -> bytes:
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": "user", "content": question}] if isinstance(question, str) else list(question),
        "max_tokens": settings.max_tokens,
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
