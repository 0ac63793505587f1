"""What is read of an engine's answer, however it is cut into reads."""

from __future__ import annotations

import asyncio
import json

import pytest

from serving.engines.client import engine_client
from serving.engines.external import external_engine
from serving.gateway.errors import ApiError
from serving.gateway.relay import End, Piece, Text, ask_engine

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def _event(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


def _pieces(*writes: bytes) -> tuple[list[Piece], ApiError | None]:
    """Let an engine answer with these writes, each read on its own; returns the pieces and what went wrong after."""
    found: list[Piece] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD)
        for part in writes:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    async def main() -> ApiError | None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            async with engine_client() as client:
                engine = external_engine("base", (url,), "m")
                async for piece in ask_engine(client, engine, url, "chat/completions", {}, 5.0):
                    found.append(piece)
        except ApiError as error:
            return error
        finally:
            server.close()
            await asyncio.sleep(0.05)
        return None

    return found, asyncio.run(main())


def test_of_one_read_all_texts_but_the_last_say_that_more_is_there() -> None:
    together = _event("一") + _event("二") + _event("三")
    found, fault = _pieces(together, _event("四"), _event("", "stop"))
    assert fault is None
    assert found == [Text("一", more=True), Text("二", more=True), Text("三"), Text("四"), End("stop", None)]


def test_an_event_may_be_cut_anywhere_also_within_a_character() -> None:
    whole = _event("高血压") + _event("", "stop")
    for cut in range(1, len(whole)):
        if cut % 7 == 0 or whole[cut - 1] > 127:
            found, fault = _pieces(whole[:cut], whole[cut:])
            assert (found, fault) == ([Text("高血压"), End("stop", None)], None), cut


def test_a_last_line_without_its_end_counts() -> None:
    found, fault = _pieces(_event("一"), _event("", "stop").rstrip())
    assert (found, fault) == ([Text("一"), End("stop", None)], None)


@pytest.mark.parametrize("bad", [b"data: {no JSON\n\n", b'data: {"error": {"message": "out of memory"}}\n\n'])
def test_what_came_before_a_fault_in_the_same_read_is_kept(bad: bytes) -> None:
    found, fault = _pieces(_event("一") + _event("二") + bad + _event("三"))
    assert found == [Text("一", more=True), Text("二")]
    assert fault is not None and fault.status == 502
