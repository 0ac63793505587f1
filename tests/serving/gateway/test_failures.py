"""Engines that are killed and clients that go away, with real processes for gateway and engine and real clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from serving.engines.ports import free_ports
from tests.conftest import REPOSITORY

MESSAGES: Any = [{"role": "user", "content": "好"}]
BODY = {"model": "base", "messages": MESSAGES, "stream": True}
NO_LIMITS = httpx.Limits(max_connections=None)


@contextlib.contextmanager
def _process(module: str, *arguments: str) -> Iterator[str]:
    """Run a module that listens on the port it is given; yields its address once it does."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", f"tests.serving.{module}", str(port), *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url)
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _get(url: str) -> Any:
    return httpx.get(url, timeout=10).json()


def _metric(url: str, line: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return next(
        (float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line)), 0.0
    )


def _engine_pid(log: Path) -> int:
    """Return the process id of the engine that a gateway keeps; uvicorn logs nothing, so ask the system."""
    found = subprocess.run(
        ["pgrep", "-f", "tests.serving.engine_process"], capture_output=True, text=True, check=False
    )
    mine = []
    for pid in map(int, found.stdout.split()):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            target = str(Path(f"/proc/{pid}/fd/1").readlink())
            if b"launcher.py" not in command and target == str(log):
                mine.append(pid)
    (pid,) = mine
    return pid


def test_100_clients_that_go_away_leave_nothing_behind() -> None:
    async def go_away(client: httpx.AsyncClient, url: str, number: int) -> None:
        body = {**BODY, "stream": number % 4 != 0}
        if not body["stream"]:
            with contextlib.suppress(httpx.ReadTimeout):
                await client.post(f"{url}/v1/chat/completions", json=body, timeout=1.0)
            return
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as response:
            assert response.status_code == 200
            async for _ in response.aiter_lines():
                break

    async def crowd(url: str) -> None:
        async with httpx.AsyncClient(limits=NO_LIMITS) as client:
            await asyncio.gather(*(go_away(client, url, number) for number in range(100)))

    with (
        _process("engine_process", "--texts", "2000", "--delay-s", "0.02") as engine_url,
        _process("gateway_process", engine_url) as url,
    ):
        before = _get(f"{url}/debug")
        asyncio.run(crowd(url))
        left_s = time.monotonic()
        while _get(f"{engine_url}/state")["num_open"]:
            assert time.monotonic() - left_s < 3
            time.sleep(0.05)
        state = _get(f"{engine_url}/state")
        assert state["num_cancelled"] == state["num_requests"] == 100
        time.sleep(0.5)
        after = _get(f"{url}/debug")
        assert after["num_tasks"] <= before["num_tasks"] + 1
        assert after["num_files"] <= before["num_files"] + 2
        assert _metric(url, 'groundtune_requests_in_flight{engine="base"}') == 0


def test_engine_killed_in_20_streams(tmp_path: Path) -> None:
    async def raw_stream(url: str, began: asyncio.Semaphore) -> str:
        text = ""
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as response,
        ):
            async for part in response.aiter_text():
                if not text:
                    began.release()
                text += part
        return text

    async def openai_stream(url: str, began: asyncio.Semaphore) -> Exception | None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(model="base", messages=MESSAGES, stream=True)
            began.release()
            try:
                async for _ in stream:
                    pass
            except openai.APIError as error:
                return error
            return None

    async def check(url: str) -> None:
        began = asyncio.Semaphore(0)
        raw = [asyncio.ensure_future(raw_stream(url, began)) for _ in range(10)]
        parsed = [asyncio.ensure_future(openai_stream(url, began)) for _ in range(10)]
        for _ in range(20):
            await began.acquire()
        os.kill(_engine_pid(tmp_path / "e.log"), signal.SIGKILL)
        for text in await asyncio.gather(*raw):
            assert "[DONE]" not in text
            assert '"code": "engine_unavailable"' in text
        for error in await asyncio.gather(*parsed):
            assert isinstance(error, openai.APIError)

    with _process("gateway_process", "--keep", str(tmp_path), "--texts", "100", "--delay-s", "0.05") as url:
        asyncio.run(check(url))
        # By itself: nobody has asked since, and the next question is answered.
        assert httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60).text.endswith(
            "data: [DONE]\n\n"
        )
        assert httpx.get(f"{url}/health/ready", timeout=30).status_code == 200
        assert _metric(url, 'groundtune_engine_restarts_total{engine="base"}') == 1


@pytest.mark.integration
def test_requests_without_a_first_token_survive_the_engine(tmp_path: Path) -> None:
    async def ask(client: AsyncOpenAI, stream: bool) -> str:
        if not stream:
            answer = await client.chat.completions.create(model="base", messages=MESSAGES)
            return answer.choices[0].message.content or ""
        chunks = await client.chat.completions.create(model="base", messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def check(url: str) -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            asked = [asyncio.ensure_future(ask(client, number % 2 == 0)) for number in range(20)]
            await asyncio.sleep(0.8)
            os.kill(_engine_pid(tmp_path / "e.log"), signal.SIGKILL)
            # Those that come while it is away wait too.
            await asyncio.sleep(0.3)
            late = [asyncio.ensure_future(ask(client, number % 2 == 0)) for number in range(10)]
            assert set(await asyncio.gather(*asked, *late)) == {"字字"}

    arguments = ("--keep", str(tmp_path), "--texts", "2", "--delay-s", "1.5", "--load-s", "0.5")
    with _process("gateway_process", *arguments) as url:
        asyncio.run(check(url))
        assert _metric(url, 'groundtune_engine_restarts_total{engine="base"}') == 1
        assert _metric(url, 'groundtune_engine_retries_total{model="base"}') >= 20


@pytest.mark.integration
@pytest.mark.parametrize("num_dead", [1, 2])
def test_servers_that_are_away_cost_no_answer(num_dead: int) -> None:
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(_process("engine_process", "--delay-s", "0.01")) for _ in range(2)]
        nobody = [f"http://127.0.0.1:{port}" for port in free_ports(num_dead)]
        url = stack.enter_context(_process("gateway_process", *nobody, *urls))
        with httpx.Client(base_url=url, timeout=30) as client:
            answers = [client.post("/v1/chat/completions", json=BODY) for _ in range(40)]
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
        shares = [_get(f"{engine_url}/state")["num_requests"] for engine_url in urls]
        assert sum(shares) == 40
        assert min(shares) >= 10
        # Left alone after three failures each: not asked for every one of the forty.
        assert _metric(url, 'groundtune_engine_retries_total{model="base"}') <= 3 * num_dead + 4


@pytest.mark.integration
def test_requests_go_where_the_fewest_are() -> None:
    async def one_after_another(client: httpx.AsyncClient, url: str) -> None:
        for _ in range(10):
            await client.post(f"{url}/v1/chat/completions", json=BODY)

    async def crowd(url: str) -> None:
        async with httpx.AsyncClient(limits=NO_LIMITS, timeout=30) as client:
            await asyncio.gather(*(one_after_another(client, url) for _ in range(6)))

    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(_process("engine_process", "--texts", "5", "--delay-s", "0.1"))
        quick = stack.enter_context(_process("engine_process", "--texts", "5", "--delay-s", "0.001"))
        url = stack.enter_context(_process("gateway_process", slow, quick))
        asyncio.run(crowd(url))
        shares = [_get(f"{engine_url}/state")["num_requests"] for engine_url in (slow, quick)]
    assert sum(shares) == 60
    assert shares[1] > 1.5 * shares[0]
