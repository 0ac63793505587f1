"""One HTTP connection of a scripted engine: reads requests with as little work as possible."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httptools


class AskedProtocol(asyncio.Protocol):
    """Calls `asked` with the JSON of each request; answers are written to `transport`."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []

    def asked(self, body: dict[str, Any]) -> None:
        """Answer, now or later."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin a request (called by the parser)."""
        self._parts = []

    def on_body(self, body: bytes) -> None:
        """Keep a part of its body (called by the parser)."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Hand the request over (called by the parser)."""
        self.asked(json.loads(b"".join(self._parts) or b"{}"))
