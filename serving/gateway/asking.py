"""What chat and plain completions do alike: ask an engine, watch the time, begin a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope

from serving.engines.engine import Engine
from serving.gateway.attempts import answered
from serving.gateway.events import while_connected
from serving.gateway.parts import Gateway
from serving.gateway.record import RequestRecord
from serving.gateway.relay import End, Piece, Pieces, Text
from serving.gateway.spending import spending
from serving.gateway.stops import until_stop


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


async def asked(gateway: Gateway, engine: Engine, question: Question, record: RequestRecord) -> Pieces:
    """Yield the pieces of the engine's answer, ended at a stop string, noting its health and the first token.

    Raises:
        ApiError: as `answered`; also 400 where the prompt is too long, 429 where the engine is busy or the
            key's tokens are used up.
    """
    settings, stops = gateway.settings, question.stops
    length = await gateway.meter.fit(engine, question.body, question.max_tokens, settings.max_tokens)
    body = {**question.body, "max_tokens": length}
    if stops and "stop" in engine.accepts:
        body["stop"] = list(stops)
    with spending(gateway.budgets, record, question.body, length):
        async with gateway.gates[engine.name].place():
            pieces = answered(gateway, gateway.upstreams[engine.name], question.path, body, record)
            if stops and "stop" not in engine.accepts:
                pieces = until_stop(pieces, stops)
            async with aclosing(pieces):
                async for piece in pieces:
                    if isinstance(piece, Text):
                        record.saw_text()
                        gateway.health.saw_token(engine)
                    elif isinstance(piece, End):
                        record.usage = piece.usage
                    yield piece


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


async def begun(scope: Scope, receive: Receive, pieces: Pieces, timeout_s: float) -> Begun:
    """Return `pieces` once the first is there, so that what fails before it is an error with its own status.

    It also lets the headers of a stream tell the time to the first token.
    """
    try:
        first = await while_connected(scope, receive, anext(pieces), timeout_s)
    except BaseException:
        await pieces.aclose()
        raise
    return Begun(first, pieces)
