"""HTTP/1.1 with as little work as possible between a due request and its bytes on the wire.

Connections are kept and used again. llhttp (httptools) parses the head and the chunks; the body is kept as it came.
No proxy, no redirect, no compression. The only file that imports httptools.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from benchmarks.load.exchange import Exchange
from data.errors import UsageError

Done = Callable[[Exchange], None]


@dataclass(frozen=True)
class Address:
    """Where requests go; `path` is what stands before `/chat/completions`."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> str:
        """The Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.is_tls else 80) else f"{name}:{self.port}"


def parse_address(url: str) -> Address:
    """Return the address of an API's base URL, as in http://127.0.0.1:8000/v1.

    Raises:
        UsageError: it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r}: {error}; give a URL as in http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r}: not an HTTP address; give a URL as in http://127.0.0.1:8000/v1")
    is_tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls)


class ConnectionPool:
    """Sends exchanges, each over a connection of its own while it lasts; for one event loop."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if address.is_tls else None
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self, num: int) -> None:
        """Have `num` connections ready, so that the first requests need not wait for them.

        Raises:
            OSError: the server cannot be reached.
        """
        for _ in range(num - len(self._idle)):
            self._idle.append(await self._connect())

    def send(self, exchange: Exchange, done: Done) -> None:
        """Send now; `done` is called once it is over. Whatever goes wrong is noted in the exchange."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                connection.start(exchange, done, is_first=False)
                return
        task = asyncio.ensure_future(self._send_on_new(exchange, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def close(self) -> None:
        """Close every connection; exchanges under way end with an error."""
        for connection in list(self._all):
            connection.abort("stopped")

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await asyncio.wait_for(
            loop.create_connection(
                lambda: _Connection(self._idle, self._all, self._timeout_s, self._again),
                self._address.host,
                self._address.port,
                ssl=self._tls,
            ),
            self._timeout_s,
        )
        return connection

    async def _send_on_new(self, exchange: Exchange, done: Done) -> None:
        try:
            connection = await self._connect()
        except (OSError, TimeoutError) as error:
            exchange.ended_s = time.monotonic()
            exchange.error = f"no connection ({getattr(error, 'strerror', None) or type(error).__name__})"
            done(exchange)
            return
        connection.start(exchange, done, is_first=True)

    def _again(self, exchange: Exchange, done: Done) -> None:
        """Send on a new connection what was written to a kept one that the server had just closed."""
        task = asyncio.ensure_future(self._send_on_new(exchange, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        idle: list[_Connection],
        known: set[_Connection],
        timeout_s: float,
        again: Callable[[Exchange, Done], None],
    ) -> None:
        self._idle = idle
        self._known = known
        self._timeout_s = timeout_s
        self._again = again
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._done: Done | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._now_s = 0.0
        self._is_first = True
        self._is_whole = self._stays = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def start(self, exchange: Exchange, done: Done, *, is_first: bool) -> None:
        assert self._transport is not None
        self._exchange, self._done, self._is_first, self._is_whole = exchange, done, is_first, False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(exchange.request)
        exchange.sent_s = time.monotonic()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._timeout_s, self.abort, f"timeout after {self._timeout_s:g} s")

    def abort(self, error: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(error)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._known.add(self)
        if (raw := transport.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._now_s = time.monotonic()
        if self._exchange is None:
            # A server speaks only when it was asked.
            self.abort("unasked data")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(f"not HTTP ({error})")
            return
        if self._is_whole:
            if self._stays and self.is_open:
                self._idle.append(self)
            elif self._transport is not None:
                self._transport.close()
            self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._known.discard(self)
        if self in self._idle:
            self._idle.remove(self)
        exchange, done = self._exchange, self._done
        if exchange is None or done is None:
            return
        if not self._is_first and not exchange.status and not exchange.chunks:
            self._forget()
            self._again(exchange, done)
            return
        headers = exchange.headers
        until_close = "content-length" not in headers and "transfer-encoding" not in headers
        self._end("" if exchange.status and until_close else "connection closed")

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is not None:
            self._exchange.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.chunks.append((self._now_s, body))

    def on_message_complete(self) -> None:
        # The parser knows it only in here.
        self._is_whole, self._stays = True, self._parser.should_keep_alive()

    def _end(self, error: str) -> None:
        exchange, done = self._exchange, self._done
        self._forget()
        if exchange is not None and done is not None:
            exchange.ended_s, exchange.error = time.monotonic(), error
            done(exchange)

    def _forget(self) -> None:
        self._exchange = self._done = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
