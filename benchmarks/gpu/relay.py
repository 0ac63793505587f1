"""A relay that only copies bytes, and notes when each question and the first text of its answer came past.

    python -m benchmarks.gpu.relay PORT ENGINE_PORT

Behind a gateway it tells how much of a first token's time the engine took, whatever else differs from one request to
the next; in front of an engine, what any process between it and its clients costs. GET /notes returns the notes as
JSON, and forgets them: of each question its mark (mark_of), `asked_s` and `first_s` of the system's monotonic clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

_NOTES = b"GET /notes"
_FIRST_TEXT = re.compile(rb'"content":\s*"[^"]')


def mark_of(question: str | Sequence[Mapping[str, Any]]) -> str:
    """Return what tells a question from others: a hash of its last message's text."""
    text = question if isinstance(question, str) else question[-1]["content"]
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class _Note:
    asked_s: float
    request: list[bytes] = field(default_factory=list)
    first_s: float = 0.0

    def told(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        body = b"".join(self.request).partition(b"\r\n\r\n")[2]
        mark = mark_of(json.loads(body)["messages"])
        return {"mark": mark, "asked_s": self.asked_s, "first_s": self.first_s}


class _End(asyncio.Protocol):
    """One side of a pair; what comes in here goes out there."""

    def __init__(self, other: _End | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        elif self.other is not None:
            self.other.early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_End):
    """Where questions come in, one at a time."""

    def __init__(self, engine_port: int, notes: list[_Note]) -> None:
        super().__init__()
        self._engine_port = engine_port
        self._notes = notes
        self.note: _Note | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = end = _Engine(self)
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(loop.create_connection(lambda: end, "127.0.0.1", self._engine_port))

    def data_received(self, data: bytes) -> None:
        if data.startswith(_NOTES):
            self._tell()
            return
        if data.startswith(b"POST "):
            self.note = _Note(time.monotonic())
        super().data_received(data)
        if self.note is not None:
            self.note.request.append(data)

    def answered(self, data: bytes) -> None:
        """Look for the first text in what the engine sent."""
        if self.note is not None and _FIRST_TEXT.search(data) is not None:
            self.note.first_s = time.monotonic()
            self._notes.append(self.note)
            self.note = None

    def _tell(self) -> None:
        assert self.transport is not None
        told = json.dumps([note.told() for note in self._notes]).encode()
        self._notes.clear()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(told)}\r\n\r\n"
        self.transport.write(head.encode() + told)


class _Engine(_End):
    """Where answers come in."""

    def __init__(self, client: _Client) -> None:
        super().__init__(client)
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)
        super().data_received(data)


async def _serve(port: int, engine_port: int) -> None:
    notes: list[_Note] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(engine_port, notes), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
