"""The lean client against servers that behave in every way that a server may."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from serving.engines.client import engine_client
from serving.engines.ports import bind_port
from serving.engines.wire import Wire

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_HEAD = b"HTTP/1.1 200 OK\r\n"


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one request; b"" where the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
    )
    return head + await reader.readexactly(length)


def run(handler: Handler, work: Callable[[Wire, str], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        wire = Wire()
        try:
            port = server.sockets[0].getsockname()[1]
            await work(wire, f"http://127.0.0.1:{port}/v1/chat/completions")
        finally:
            wire.close()
            server.close()
            await asyncio.sleep(0.05)

    asyncio.run(main())


async def asked(wire: Wire, url: str, silence_s: float = 2.0) -> tuple[int, bytes]:
    async with wire.post(
        url, b"{}", {"Authorization": "Bearer k"}, connect_s=2, silence_s=silence_s
    ) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize(
    ("rest", "num_connections"),
    [
        (b"Content-Length: 5\r\n\r\nhello", 1),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 1),
        (b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 3),
    ],
)
def test_bodies_of_every_kind_and_connections_kept_where_they_may(rest: bytes, num_connections: int) -> None:
    seen: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while request := await request_of(reader):
            seen.append(request)
            writer.write(_HEAD + rest)
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        for _ in range(3):
            assert await asked(wire, url) == (200, b"hello")

    run(serve, work)
    assert connections == num_connections
    assert seen[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Bearer k\r\n" in seen[0]


def test_body_that_ends_with_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(_HEAD + b"\r\nhello")
        await writer.drain()
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        assert await asked(wire, url) == (200, b"hello")

    run(serve, work)


def test_kept_connection_that_the_server_closes_as_it_is_used() -> None:
    num = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num
        await request_of(reader)
        num += 1
        writer.write(_HEAD + b"Content-Length: 2\r\n\r\nhi")
        # The second request on this connection is read and never answered.
        await request_of(reader)
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        assert await asked(wire, url) == (200, b"hi")
        assert await asked(wire, url) == (200, b"hi")

    run(serve, work)
    assert num == 2


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", ConnectionError),
        (b"nonsense\r\n\r\n", ConnectionError),
        (_HEAD + b"Content-Length: 9\r\n\r\nhel", ConnectionError),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", ConnectionError),
    ],
)
def test_answers_that_break_off(sent: bytes, expected: type[Exception]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(sent)
        await writer.drain()
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        with pytest.raises(expected):
            await asked(wire, url)

    run(serve, work)


@pytest.mark.parametrize("sent", [b"", _HEAD + b"Content-Length: 9\r\n\r\nhel"])
def test_silence_ends_a_request_and_its_connection(sent: bytes) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(sent)
        await reader.read()
        closed.set()
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        with pytest.raises(TimeoutError):
            await asked(wire, url, silence_s=0.2)
        await asyncio.wait_for(closed.wait(), 1)

    run(serve, work)


def test_an_engine_waits_for_a_slow_reader() -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await request_of(reader)
        writer.write(_HEAD + b"\r\n")
        for _ in range(400):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 1
        writer.close()

    async def work(wire: Wire, url: str) -> None:
        async with wire.post(url, b"{}", {}, connect_s=2, silence_s=2) as answer:
            await asyncio.sleep(0.5)
            before = written
            assert len(await answer.read()) == 400 * 100_000
        assert before < 200

    run(serve, work)


def test_where_the_lean_client_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def reached(url: str) -> bool:
        async with engine_client() as client:
            return client.wire_to(url) is not None

    assert asyncio.run(reached("http://engine:8000/v1"))
    assert not asyncio.run(reached("https://engine/v1"))
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert not asyncio.run(reached("http://engine:8000/v1"))
    assert asyncio.run(reached("http://127.0.0.1:8000/v1"))


def test_no_waiting_for_acknowledgements() -> None:
    async def main() -> int:
        bound = bind_port("127.0.0.1", 0)
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            accepted.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(serve, sock=bound):
            _, writer = await asyncio.open_connection(*bound.getsockname())
            found = await accepted
            writer.close()
            return found

    assert asyncio.run(main()) != 0


def test_an_answer_that_begins_does_not_wait_for_the_next_tokens_of_the_others() -> None:
    num_others = 60
    token = b"1\r\nt\r\n"
    writers: list[asyncio.StreamWriter] = []
    order: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request_of(reader):
            writers.append(writer)
        writer.close()

    async def read(wire: Wire, url: str, number: int) -> None:
        async with wire.post(url, b"{}", {}, connect_s=2, silence_s=5) as answer:
            async for _ in answer.parts():
                order.append(number)

    async def work(wire: Wire, url: str) -> None:
        tasks: list[asyncio.Task[None]] = []

        async def ask() -> asyncio.StreamWriter:
            tasks.append(asyncio.create_task(read(wire, url, len(tasks))))
            while len(writers) < len(tasks):
                await asyncio.sleep(0.001)
            return writers[-1]

        async def come(num: int) -> None:
            while len(order) < num:
                await asyncio.sleep(0.001)

        for _ in range(num_others):
            writer = await ask()
            writer.write(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + token)
            await come(len(tasks))
        for writer in writers:
            writer.write(token)
        await come(2 * num_others)
        order.clear()
        new = await ask()
        # One step of an engine: a token for everyone, the new one last.
        for writer in writers[:num_others]:
            writer.write(token)
        new.write(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + token)
        await come(num_others + 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(order) == list(range(num_others + 1))
        assert order.index(num_others) < num_others / 4
        assert [number for number in order if number != num_others] == list(range(num_others))

    run(serve, work)
