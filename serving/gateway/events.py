"""Server-sent events to a client that may go away at any moment, which must stop the engine's work at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.gateway.errors import CLIENT_CLOSED_REQUEST, ApiError, client_closed, request_too_long
from serving.gateway.record import record_of

T = TypeVar("T")
Events = AsyncGenerator[Mapping[str, Any], None]
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
_LAST_WORD_S = 1.0
_MOST_HELD_BYTES = 1 << 16
_END = {"type": "http.response.body", "body": b"", "more_body": False}


class Closable(Protocol):
    """Something to be let go of."""

    async def aclose(self) -> None:
        """Let go; may be called more than once."""


async def while_connected(receive: Receive, work: Awaitable[T], timeout_s: float) -> T:
    """Return what `work` returns; cancels it when the client goes first, or when `timeout_s` have passed.

    Call it only once the request's body was read.

    Raises:
        ApiError: the client has gone, or 504 after `timeout_s`.
    """
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        # `work` runs in this task, not in one of its own: of many requests that come at once the first is then on its
        # way to the engine before the last is looked at.
        async with asyncio.timeout(timeout_s) as limit:
            gone.add_done_callback(partial(_expire, limit))
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise (client_closed() if gone.done() else request_too_long()) from None
    finally:
        if not gone.done():
            gone.cancel()
            # Awaited so that nothing of it goes on after this returns.
            await asyncio.wait((gone,))
        if not gone.cancelled():
            gone.exception()  # looked at, or asyncio would tell of it


def _expire(limit: asyncio.Timeout, gone: asyncio.Future[None]) -> None:
    if not gone.cancelled():
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
            await while_connected(receive, self._send(send), self._timeout_s)
        except ApiError as error:
            record.error = error.code
            if error.status != CLIENT_CLOSED_REQUEST:
                # A client that does not read must not hold this up.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORD_S):
                        await send(_frame(_json(error.body)))
                        await send(_END)
        finally:
            await self._events.aclose()
            await self._source.aclose()

    async def _send(self, send: Send) -> None:
        joined = _Joined(send)
        try:
            async for event in self._events:
                await joined.add(_line(_json(event)))
            await joined.add(_line("[DONE]"))
            await joined.sent()
        except ApiError:
            # What came before it goes first.
            await joined.sent()
            raise
        finally:
            joined.cancel()
        await send(_END)


class _Joined:
    """Sends what is added before the event loop's next turn as one piece: a write costs more than an event.

    Nothing waits for more to come: the sending begins as soon as whoever adds has to wait itself.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[bytes] = []
        self._num_held_bytes = 0
        self._sending: asyncio.Task[None] | None = None

    async def add(self, line: bytes) -> None:
        """Have `line` sent; waits only where a slow client has left much unsent, and raises what sending raised."""
        self._held.append(line)
        self._num_held_bytes += len(line)
        if self._sending is None or self._sending.done():
            if self._sending is not None:
                self._sending.result()
            self._sending = asyncio.ensure_future(self._send_held())
        if self._num_held_bytes > _MOST_HELD_BYTES:
            await self.sent()

    async def sent(self) -> None:
        """Wait until everything is sent."""
        if self._sending is not None:
            await self._sending

    def cancel(self) -> None:
        """Send nothing more."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send_held(self) -> None:
        while self._held:
            body = b"".join(self._held)
            self._held, self._num_held_bytes = [], 0
            await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _json(event: Mapping[str, Any]) -> str:
    """Return the event on one line, also for clients that take Unicode's other line ends for one."""
    return json.dumps(event, ensure_ascii=False).translate(_LINE_ENDS)


def _line(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def _frame(data: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": _line(data), "more_body": True}
