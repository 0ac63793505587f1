"""Plain HTTP/1.1 to an engine with as little work as possible between an answer's bytes and their reader.

A general client spends more time on one request than the gateway's other work together. This one posts to http://
addresses over kept connections; llhttp (httptools) parses heads and chunks. It knows no TLS, proxies, redirects,
cookies and compression: where one is needed, the general client is used (serving.engines.client).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httptools

from serving.turns import Turns

# Shorter than the five seconds after which engines close an idle connection, so that none is used as it closes.
KEEPALIVE_S = 2.0
_MOST_IDLE = 64
# An engine is not read further while its answer waits for a slow client.
_MOST_HELD_BYTES = 1 << 18
# Of an answer: who speaks, and the first token.
_URGENT_PARTS = 2


class Wire:
    """Connections to engines, each used by one request at a time; for one event loop."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._turns = Turns()

    @asynccontextmanager
    async def post(
        self, url: str, content: bytes, headers: Mapping[str, str], *, connect_s: float, silence_s: float
    ) -> AsyncIterator[Answer]:
        """Post JSON; yields the answer once its head has come. Leaving before its end closes the connection.

        Raises:
            TimeoutError: nothing came for `silence_s`, or no connection within `connect_s`; also while reading.
            OSError: the connection was refused or broke off; also while reading.
        """
        parts = urlsplit(url)
        place = (parts.hostname or "", parts.port or 80)
        lines = [
            f"POST {parts.path or '/'} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            "Accept: text/event-stream, application/json",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + content
        connection = self._kept(place)
        while True:
            is_kept = connection is not None
            if connection is None:
                connection = await self._connect(place, connect_s)
            try:
                connection.send(request)
                await connection.wait_head(silence_s)
                break
            except ConnectionError:
                connection.close()
                # It was closed as it was used; before the head nothing was answered, so it may be asked again.
                if not is_kept or connection.has_data:
                    raise
                connection = None
            except BaseException:
                connection.close()
                raise
        try:
            yield Answer(connection, silence_s)
        finally:
            self._give_back(place, connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.close()

    async def _connect(self, place: tuple[str, int], timeout_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(lambda: _Connection(self._all, self._turns), *place)
        return connection

    def _kept(self, place: tuple[str, int]) -> _Connection | None:
        idle = self._idle.get(place, [])
        while idle:
            connection = idle.pop()
            if connection.is_open and time.monotonic() - connection.idle_since_s < KEEPALIVE_S:
                return connection
            connection.close()
        return None

    def _give_back(self, place: tuple[str, int], connection: _Connection) -> None:
        idle = self._idle.setdefault(place, [])
        # The oldest stand first, and would never be taken again once they are too old.
        while idle and (not idle[0].is_open or time.monotonic() - idle[0].idle_since_s >= KEEPALIVE_S):
            idle.pop(0).close()
        if connection.is_reusable and len(idle) < _MOST_IDLE:
            connection.idle_since_s = time.monotonic()
            idle.append(connection)
        else:
            connection.close()


class Answer:
    """A response whose body is still coming."""

    def __init__(self, connection: _Connection, silence_s: float) -> None:
        self._connection = connection
        self._silence_s = silence_s

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._connection.status

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            TimeoutError: silence.
            OSError: it broke off.
        """
        while part := await self._connection.next_part(self._silence_s):
            yield part

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([part async for part in self.parts()])


class _Connection(asyncio.Protocol):
    def __init__(self, known: set[_Connection], turns: Turns) -> None:
        self._known = known
        self._turns = turns
        self._num_parts = 0
        self._has_turn_coming = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser = httptools.HttpResponseParser(self)
        self._held: list[bytes] = []
        self._num_held_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._has_head = self._is_whole = self._stays = self._is_paused = False
        self._is_lost = self._is_until_close = False
        self._fault: Exception | None = None
        self.has_data = False
        self.status = 0
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._is_lost and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        return self._is_whole and self._stays and not self._held and self.is_open

    def send(self, request: bytes) -> None:
        if self._transport is None or self._is_lost:
            raise ConnectionResetError("the connection was closed")
        self._parser = httptools.HttpResponseParser(self)
        self._held, self._num_held_bytes, self.status, self._num_parts = [], 0, 0, 0
        self._has_head = self._is_whole = self._stays = self.has_data = False
        self._is_until_close = True
        self._transport.write(request)

    async def wait_head(self, timeout_s: float) -> None:
        while not self._has_head:
            await self._wait(timeout_s)

    async def next_part(self, timeout_s: float) -> bytes:
        """Return what has come of the body; b"" at its end."""
        while not self._held and not self._is_whole:
            await self._wait(timeout_s)
        self._num_parts += 1
        part = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held, self._num_held_bytes = [], 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return part

    def close(self) -> None:
        self._is_lost = True
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, timeout_s: float) -> None:
        if self._fault is not None:
            raise self._fault
        if self._is_lost:
            raise ConnectionResetError("the connection was closed")
        loop = self._loop
        self._waiter = loop.create_future()
        self._due_s = loop.time() + timeout_s
        # A timer a wait would cost more than the wait's other work. One that runs already is set anew when it ends;
        # one that would end too late is not left to.
        if self._timer is None or self._timer.when() > self._due_s:
            self._set_timer()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(self._due_s, self._look_at_clock)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._due_s:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError("nothing came in time"))

    def _wake(self) -> None:
        """Let the reader go on: at once to an answer's beginning, and in its turn with the others after that."""
        if self._num_parts < _URGENT_PARTS:
            self._wake_now()
        elif not self._has_turn_coming:
            self._has_turn_coming = True
            self._turns.do(self._wake_now)

    def _wake_now(self) -> bool:
        self._has_turn_coming = False
        if self._waiter is None or self._waiter.done():
            return False
        self._waiter.set_result(None)
        return True

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are none of asyncio's classes
        self._known.add(self)

    def data_received(self, data: bytes) -> None:
        self.has_data = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fault = ConnectionError(f"not HTTP ({error})")
            self.close()
        if self._num_held_bytes > _MOST_HELD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._known.discard(self)
        self._is_lost = True
        self._stop_timer()
        if self._has_head and self._is_until_close:
            self._is_whole = True
        self._wake()

    # httptools' callbacks

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._is_until_close = False

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._held.append(body)
        self._num_held_bytes += len(body)

    def on_message_complete(self) -> None:
        # The parser knows it only in here.
        self._is_whole, self._stays = True, self._parser.should_keep_alive()
