"""Server-sent events to a client that may go away at any moment, which must stop the engine's work at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping
from functools import partial
from typing import Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.gateway.errors import CLIENT_CLOSED_REQUEST, ApiError, client_closed, request_too_long
from serving.gateway.record import record_of
from serving.gateway.sse import DONE, event_line

T = TypeVar("T")
Events = AsyncGenerator[bytes, None]
"""Lines of an event stream; those that are there at once come together: a write costs more than an event."""
_LAST_WORD_S = 1.0


class Closable(Protocol):
    """Something to be let go of."""

    async def aclose(self) -> None:
        """Let go; may be called more than once."""


async def while_connected(scope: Scope, receive: Receive, work: Awaitable[T], timeout_s: float) -> T:
    """Return what `work` returns; cancels it when the client goes first, or when `timeout_s` have passed.

    Call it only once the request's body was read.

    Raises:
        ApiError: the client has gone, or 504 after `timeout_s`.
    """
    record = record_of(scope)
    # One watch for all of a request's work. It ends by itself: a server tells of the end of its response too.
    gone = record.gone = record.gone or asyncio.ensure_future(_disconnect(receive))
    try:
        # `work` runs in this task, not in one of its own: of many requests that come at once the first is then on its
        # way to the engine before the last is looked at.
        async with asyncio.timeout(timeout_s) as limit:
            expire = partial(_expire, limit)
            gone.add_done_callback(expire)
            try:
                return await work
            finally:
                gone.remove_done_callback(expire)
    except TimeoutError:
        if not limit.expired():
            raise
        raise (client_closed() if gone.done() else request_too_long()) from None


def _expire(limit: asyncio.Timeout, gone: asyncio.Future[None]) -> None:
    if not gone.cancelled():
        gone.exception()  # looked at, or asyncio would tell of it
        # The work may have ended in this same turn of the loop; there is no limit then to move.
        with contextlib.suppress(RuntimeError):
            limit.reschedule(asyncio.get_running_loop().time())


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A stream of JSON events with OpenAI's `[DONE]` at the end.

    Starlette's own streaming response leaves the generator behind it to the garbage collector when the client
    goes; here it is closed at once. An error after the first event becomes an event, and no `[DONE]` follows.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: Events, source: Closable, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        """`source` is what `events` read from: closed too, even where no event was ever asked for.

        `timeout_s`: the stream ends with an error when it is not complete by then.
        """
        # Neither proxies nor browsers may keep or hold back a part of it.
        super().__init__(None, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events
        self._source = source
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, the client goes or the time is over."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        record = record_of(scope)
        try:
            await while_connected(scope, receive, self._send(send), self._timeout_s)
        except ApiError as error:
            record.error = error.code
            if error.status != CLIENT_CLOSED_REQUEST:
                # A client that does not read must not hold this up.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORD_S):
                        last = event_line(error.body)
                        await send({"type": "http.response.body", "body": last, "more_body": False})
        finally:
            await self._events.aclose()
            await self._source.aclose()

    async def _send(self, send: Send) -> None:
        async for lines in self._events:
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": DONE, "more_body": False})
