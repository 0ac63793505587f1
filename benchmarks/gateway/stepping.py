"""An engine that works in steps, as those that batch do: at each, every stream gets its next event, all at once.

    python -m benchmarks.gateway.stepping PORT [--step-ms M]

An answer has as many tokens as were asked for. Each is two times of the system's monotonic clock, when its step ended
and when the request came, so that whoever reads it knows how long both were under way.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import uvloop

from benchmarks.gateway.asked import AskedProtocol

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = (
    'data: {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": '
    '[{"index": 0, "delta": %s, "logprobs": null, "finish_reason": %s}]}\n\n'
)


class _Stream(AskedProtocol):
    """A connection and the answer that runs on it."""

    def __init__(self, running: set[_Stream]) -> None:
        super().__init__()
        self._running = running
        self._came_s = 0.0
        self._has_begun = False
        self._left = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._running.discard(self)

    def asked(self, body: dict[str, Any]) -> None:
        self._came_s = time.monotonic()
        self._has_begun = False
        self._left = body.get("max_tokens", 1)
        self._running.add(self)

    def step(self, ended_s: float) -> None:
        """Send the next event; the first with the head, the last with the end."""
        parts = [] if self._has_begun else [_HEAD]
        self._has_begun = True
        parts.append(_chunk(_EVENT % (f'{{"content": "{ended_s:.6f} {self._came_s:.6f} "}}', "null")))
        self._left -= 1
        if self._left == 0:
            parts += [_chunk(_EVENT % ("{}", '"stop"')), _chunk("data: [DONE]\n\n"), b"0\r\n\r\n"]
            self._running.discard(self)
        self.transport.write(b"".join(parts))


def _chunk(event: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event.encode())


async def _serve(port: int, step_s: float) -> None:
    running: set[_Stream] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Stream(running), "127.0.0.1", port, backlog=1024)

    def step(due_s: float) -> None:
        ended_s = time.monotonic()
        for stream in tuple(running):
            stream.step(ended_s)
        loop.call_at(due_s + step_s, step, due_s + step_s)

    step(loop.time())
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--step-ms", type=float, default=50.0)
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.step_ms / 1000))
