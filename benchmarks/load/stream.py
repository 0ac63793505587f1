"""From the bytes of a streamed answer to its pieces of text with their times. Runs after the load, not during it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.load.exchange import Exchange

TIMING = re.compile(r"([\w.-]+)\s*;\s*dur\s*=\s*([\d.]+)")
_SEPARATOR = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Answer:
    """What one exchange brought.

    Attributes:
        pieces: (time, text) of each part that had text; times as in the exchange.
        prompt_tokens: As the server counted; None where it did not say.
        completion_tokens: The same of the answer.
        finish_reason: "" where the stream never came to one.
        stages_ms: The durations of the Server-Timing header.
        error: Why this is not a whole answer, short enough to count by; "" where it is one.
        detail: The server's own words on the error.
    """

    pieces: tuple[tuple[float, str], ...]
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    stages_ms: Mapping[str, float]
    error: str
    detail: str = ""

    @property
    def text(self) -> str:
        """All of the answer."""
        return "".join(text for _, text in self.pieces)


def read_answer(exchange: Exchange) -> Answer:
    """Return the answer in an exchange that is over; what is wrong with it stands in `error`."""
    stages = {name: float(value) for name, value in TIMING.findall(exchange.headers.get("server-timing", ""))}
    if exchange.error or exchange.status != 200:
        body = b"".join(part for _, part in exchange.chunks).decode(errors="replace")
        return Answer((), None, None, "", stages, exchange.error or f"HTTP {exchange.status}", body[:300])
    pieces: list[tuple[float, str]] = []
    usage: Mapping[str, Any] = {}
    finish_reason = error = detail = ""
    for time_s, event in _events(exchange):
        if "error" in event and not event.get("choices"):
            error, detail = "error in the stream", json.dumps(event["error"], ensure_ascii=False)[:300]
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            # A reasoning model's thoughts are tokens too.
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or choice.get("text") or "")
            if text:
                pieces.append((time_s, text))
            finish_reason = choice.get("finish_reason") or finish_reason
    if not error and not finish_reason:
        error = "stream ended early"
    elif not error and not pieces:
        error = "no text"
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Answer(tuple(pieces), prompt, completion, finish_reason, stages, error, detail)


def _events(exchange: Exchange) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Yield each JSON event with the time at which its last byte came."""
    held = b""
    for time_s, part in exchange.chunks:
        held += part
        *whole, held = _SEPARATOR.split(held)
        for event in whole:
            lines = (line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
            data = b"\n".join(lines)
            if not data or data == b"[DONE]":
                continue
            try:
                value = json.loads(data)
            except ValueError:
                value = {"error": f"not JSON: {data[:80]!r}"}
            if isinstance(value, dict):
                yield time_s, value
