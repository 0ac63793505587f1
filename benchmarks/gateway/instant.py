"""A server that answers chat completions at once, with the same bytes every time: a load tool, not an engine.

    python -m benchmarks.gateway.instant PORT [--tokens N]

A streamed answer leaves as one write of N events; a whole one is short JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import uvloop

from benchmarks.gateway.asked import AskedProtocol

_USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


class _Instant(AskedProtocol):
    def __init__(self, whole: bytes, stream: bytes) -> None:
        super().__init__()
        self._whole = whole
        self._stream = stream

    def asked(self, body: dict[str, Any]) -> None:
        self.transport.write(self._stream if body.get("stream") else self._whole)


def whole_answer() -> bytes:
    """Return the response to a request that asks for no stream."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "w0 w1 w2 w3"},
        "finish_reason": "stop",
    }
    content = json.dumps({**_head("chat.completion"), "choices": [choice], "usage": _USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def streamed_answer(num_tokens: int) -> bytes:
    """Return the response to one that does: the role, a piece of text a token, the end, `[DONE]`."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f"w{number} "}, None) for number in range(num_tokens)]
    deltas.append(({}, "stop"))
    events = [
        {
            **_head("chat.completion.chunk"),
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        for delta, reason in deltas
    ]
    events.append({**_head("chat.completion.chunk"), "choices": [], "usage": _USAGE})
    lines = [f"data: {text}\n\n".encode() for text in (*map(json.dumps, events), "[DONE]")]
    chunks = b"".join(f"{len(line):x}\r\n".encode() + line + b"\r\n" for line in lines)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunks + b"0\r\n\r\n"


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m"}


async def _serve(port: int, num_tokens: int) -> None:
    whole, stream = whole_answer(), streamed_answer(num_tokens)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Instant(whole, stream), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--tokens", type=int, default=4)
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.tokens))
