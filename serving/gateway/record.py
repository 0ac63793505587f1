"""What is known of one request: routes write it as they go, the log and the metrics read it at the end.

It is in the ASGI scope, so that every part of the gateway finds the one of its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from serving.access.keys import ApiKey
from serving.gateway.clock import Clock

_SCOPE_KEY = "groundtune.record"


@dataclass
class RequestRecord:
    """One request; times in seconds of `clock.elapsed_s`.

    Attributes:
        key: Who asks; None where no key is asked for, or none was given.
        status: Of the response; 0 before it began.
        error: The code of what went wrong, also after the response began; "client_closed" for a client that
            went away.
        model: The id asked for, once it is known to be served.
        marks: Milliseconds from the beginning (ttft, total) and of stages (embed, retrieve), for Server-Timing.
        num_pieces: Pieces of text that the engine sent.
        usage: The engine's count of tokens, where it sent one.
        is_refusal: The knowledge base had no answer, and no engine was asked.
        num_retries: How often the engine was asked again.
        prompt: What was asked, only where the log is to have it.
        gone: Done once the client has gone; None before anyone watches for that.
    """

    clock: Clock
    request_id: str
    method: str
    path: str
    client: str
    started_s: float
    key: ApiKey | None = None
    status: int = 0
    error: str | None = None
    model: str = ""
    marks: dict[str, float] = field(default_factory=dict)
    first_text_s: float | None = None
    last_text_s: float | None = None
    ended_s: float | None = None
    num_pieces: int = 0
    usage: Mapping[str, Any] | None = None
    is_refusal: bool = False
    num_retries: int = 0
    prompt: Any = None
    gone: asyncio.Future[None] | None = field(default=None, repr=False)

    def mark(self, name: str) -> None:
        """Note under `name` how long the request has taken so far, the first time."""
        self.marks.setdefault(name, (self.clock.elapsed_s() - self.started_s) * 1000)

    def saw_text(self) -> None:
        """Note that a piece of text has come from the engine."""
        self.last_text_s = self.clock.elapsed_s()
        self.num_pieces += 1
        if self.first_text_s is None:
            self.first_text_s = self.last_text_s
            self.mark("ttft")

    def tokens(self, name: str) -> int | None:
        """Return `prompt_tokens`, `completion_tokens` or `total_tokens` as the engine counted them."""
        value = (self.usage or {}).get(name)
        return value if isinstance(value, int) else None

    def headers(self, without_effect: Sequence[str]) -> dict[str, str]:
        """Return the response headers: durations, and the fields that the engine has no use for."""
        durations = ", ".join(f"{name};dur={duration_ms:.1f}" for name, duration_ms in self.marks.items())
        ignored = {"X-Fields-Without-Effect": ", ".join(without_effect)} if without_effect else {}
        return {"Server-Timing": durations, **ignored}


def attach_record(scope: Scope, record: RequestRecord) -> None:
    """Put the record where `record_of` finds it."""
    scope[_SCOPE_KEY] = record


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of the request that `scope` belongs to."""
    record = scope[_SCOPE_KEY]
    assert isinstance(record, RequestRecord)
    return record
