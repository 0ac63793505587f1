"""What chat and plain completions do alike: ask an engine, watch the time, begin a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive

from serving.engines.engine import Engine
from serving.gateway.errors import ApiError
from serving.gateway.events import while_connected
from serving.gateway.parts import Clock, Gateway
from serving.gateway.relay import Piece, Pieces, Text, ask_engine
from serving.gateway.stops import until_stop


@dataclass
class Timing:
    """Durations of one request in milliseconds, for the Server-Timing header."""

    clock: Clock
    started_s: float
    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """Note under `name` how long the request has taken so far, the first time."""
        self.marks.setdefault(name, (self.clock.elapsed_s() - self.started_s) * 1000)

    def headers(self, without_effect: Sequence[str]) -> dict[str, str]:
        """Return the response headers: durations, and the fields that the engine has no use for."""
        durations = ", ".join(f"{name};dur={duration_ms:.1f}" for name, duration_ms in self.marks.items())
        ignored = {"X-Fields-Without-Effect": ", ".join(without_effect)} if without_effect else {}
        return {"Server-Timing": durations, **ignored}


@dataclass(frozen=True)
class Question:
    """What an engine is asked.

    Attributes:
        path: `chat/completions` or `completions`.
        body: The request without model, stream, stop and length.
        max_tokens: Length of the answer; None leaves it to the settings and to the room there is.
        stops: Strings that end the answer.
    """

    path: str
    body: Mapping[str, Any]
    max_tokens: int | None
    stops: Sequence[str]


async def asked(gateway: Gateway, engine: Engine, question: Question, timing: Timing) -> Pieces:
    """Yield the pieces of the engine's answer, ended at a stop string, noting its health and the first token.

    Raises:
        ApiError: as `ask_engine`; also 400 where the prompt is too long.
    """
    settings, stops = gateway.settings, question.stops
    length = await gateway.meter.fit(engine, question.body, question.max_tokens, settings.max_tokens)
    body = {**question.body, "max_tokens": length}
    if stops and "stop" in engine.accepts:
        body["stop"] = list(stops)
    pieces = ask_engine(gateway.client, engine, question.path, body, settings.engine_timeout_s)
    if stops and "stop" not in engine.accepts:
        pieces = until_stop(pieces, stops)
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if isinstance(piece, Text):
                    timing.mark("ttft")
                    gateway.health.saw_token(engine)
                yield piece
        except ApiError as error:
            if error.code in ("engine_unavailable", "engine_timeout"):
                gateway.health.saw_failure(engine)
            raise


class Begun:
    """Pieces of which the first has come, put back in front of the others."""

    def __init__(self, first: Piece, rest: Pieces) -> None:
        self._first: Piece | None = first
        self._rest = rest

    def __aiter__(self) -> Begun:
        return self

    async def __anext__(self) -> Piece:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await anext(self._rest)

    async def aclose(self) -> None:
        """Let the engine go."""
        await self._rest.aclose()


async def begun(receive: Receive, pieces: Pieces) -> Begun:
    """Return `pieces` once the first is there, so that what fails before it is an error with its own status.

    It also lets the headers of a stream tell the time to the first token.
    """
    try:
        first = await while_connected(receive, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise
    return Begun(first, pieces)
