"""Server-sent events to a client that may go away at any moment, which must stop the engine's work at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.gateway.errors import ApiError

T = TypeVar("T")
Events = AsyncGenerator[Mapping[str, Any], None]
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
_CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read it, but the access log shows it


class Closable(Protocol):
    """Something to be let go of."""

    async def aclose(self) -> None:
        """Let go; may be called more than once."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Return what `work` returns; cancels it when the client goes first.

    Call it only once the request's body was read.

    Raises:
        ApiError: the client has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(_CLIENT_CLOSED_REQUEST, "the client closed the connection")
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A stream of JSON events with OpenAI's `[DONE]` at the end.

    Starlette's own streaming response leaves the generator behind it to the garbage collector when the client
    goes; here it is closed at once. An error after the first event becomes an event, and no `[DONE]` follows.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Events, source: Closable, headers: Mapping[str, str]) -> None:
        """`source` is what `events` read from: closed too, even where no event was ever asked for."""
        # Neither proxies nor browsers may keep or hold back a part of it.
        super().__init__(None, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client goes."""
        try:
            with contextlib.suppress(ApiError):
                await while_connected(receive, self._send(send))
        finally:
            await self._events.aclose()
            await self._source.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for event in self._events:
                await send(_frame(_json(event)))
            await send(_frame("[DONE]"))
        except ApiError as error:
            await send(_frame(_json(error.body)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _json(event: Mapping[str, Any]) -> str:
    """Return the event on one line, also for clients that take Unicode's other line ends for one."""
    return json.dumps(event, ensure_ascii=False).translate(_LINE_ENDS)


def _frame(data: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}
