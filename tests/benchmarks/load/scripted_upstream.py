"""A fast OpenAI-like server in a process of its own, which notes when each request came and when it was answered.

    python -m tests.benchmarks.load.scripted_upstream [--first-s S] [--gap-s S] [--tokens N] [--per-chunk K] ...

Prints its port. The system's monotonic clock is the same in every process, so header `X-Received` and the comment
`: sent` before the end of a stream can be held against the client's own times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httptools

from benchmarks.load.precise_loop import precise_loop

REPOSITORY = Path(__file__).parents[3]


class _PollingSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        return super().select(0)


def polling_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that never sleeps: waking up takes up to a millisecond, which is not the client's."""
    return asyncio.SelectorEventLoop(_PollingSelector())


class Upstream(asyncio.Protocol):
    """One connection. A question that holds busy, cut or broken is answered in that wrong way."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._received_s = 0.0
        self._answering: set[asyncio.Task[None]] = set()
        self._events = [
            _chunk(
                _event(
                    {"delta": {"content": _words(number, min(number + options.per_chunk, options.tokens))}}
                )
            )
            for number in range(0, options.tokens, options.per_chunk)
        ]
        self._events[0] = _chunk(_event({"delta": {"role": "assistant", "content": ""}})) + self._events[0]
        usage = {"prompt_tokens": 7, "completion_tokens": options.tokens, "total_tokens": 7 + options.tokens}
        self._end = _chunk(_STOP) + _chunk(
            f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received_s = time.monotonic()
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        asked = json.loads(self._body)
        text = asked["messages"][-1]["content"]
        if "busy" in text:
            self._whole("429 Too Many Requests", {"error": {"message": "try later"}})
        elif self._options.strict and "stream_options" in asked:
            self._whole("422 Unprocessable Entity", {"detail": "unknown field stream_options"})
        else:
            task = asyncio.ensure_future(self._stream(text, bool(asked.get("stream_options"))))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _stream(self, text: str, with_usage: bool) -> None:
        """Write the answer; what is not to be waited for goes out as one piece."""
        options = self._options
        pending = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            f"X-Received: {self._received_s!r}\r\nServer-Timing: embed;dur=3.5, retrieve;dur=1.25\r\n\r\n"
        ).encode()
        if options.first_s:
            await asyncio.sleep(options.first_s)
        for number, event in enumerate(self._events):
            if number and options.gap_s:
                self._transport.write(pending)
                pending = b""
                await asyncio.sleep(options.gap_s)
            pending += event
            if "cut" in text:
                self._transport.write(pending)
                self._transport.close()
                return
            if "broken" in text:
                broken = _chunk(b'data: {"error": {"message": "out of memory"}}\n\n')
                self._transport.write(pending + broken + b"0\r\n\r\n")
                return
        pending += self._end if with_usage else _chunk(_STOP)
        sent = f": sent {time.monotonic()!r}\n\ndata: [DONE]\n\n".encode()
        self._transport.write(pending + _chunk(sent) + b"0\r\n\r\n")

    def _whole(self, status: str, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._transport.write(head.encode() + content)


def _event(choice: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({'id': 'x', 'choices': [{'index': 0, **choice}]})}\n\n".encode()


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def _words(start: int, end: int) -> str:
    return "".join(f"w{place} " for place in range(start, end))


_STOP = _event({"delta": {}, "finish_reason": "stop"})


@contextlib.contextmanager
def scripted_upstream(*options: str) -> Iterator[str]:
    """Yield the API's base URL while such a server runs."""
    argv = [sys.executable, "-m", "tests.benchmarks.load.scripted_upstream", *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


async def _serve(options: argparse.Namespace) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(options), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--first-s", type=float, default=0.0)
    parser.add_argument("--gap-s", type=float, default=0.0)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--per-chunk", type=int, default=1)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--poll", action="store_true", help="never sleep: a core of work, for exact times")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=polling_loop if arguments.poll else precise_loop) as runner:
        runner.run(_serve(arguments))
