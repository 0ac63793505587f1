"""A new release goes live under load: engines are real processes, their answers scripted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from data.errors import GroundTuneError
from data.workspace import Run, Workspace
from serving.cli_reload import reload
from serving.engines.engine import Command, Engine
from serving.engines.ports import bind_port, free_ports
from serving.engines.supervisor import EngineProcess
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from serving.lineup import Lineup
from serving.reloading import Source
from serving.service import Knowledge, Service, _run
from serving.state import last_reload, running_pid
from tests.serving.knowledge import ThreeRows
from tests.serving.live_serve import gone_within

_MESSAGES = [{"role": "user", "content": "问"}]


@dataclass
class What:
    """What the run has, changed by the test: pieces of `tuned`'s answers (None: it cannot start), index."""

    num_texts: int | None = 3
    version: str = "v1"
    closed: list[str] = field(default_factory=list)


class _Rows(ThreeRows):
    def __init__(self, what: What) -> None:
        super().__init__()
        self._what = what
        self.version = what.version

    def close(self) -> None:
        self._what.closed.append(self.version)


def _service(run: Run, what: What) -> Service:
    processes, models = [], []
    arguments = {
        "base": ("--texts", "1"),
        "tuned": ("--texts", str(what.num_texts), "--delay-s", "0.02", "--load-s", "0.5"),
    }
    for (name, words), port in zip(arguments.items(), free_ports(2), strict=True):
        engine = Engine(name, f"http://127.0.0.1:{port}/v1", "m", frozenset({"stream_options"}))
        argv = (sys.executable, "-m", "tests.serving.engine_process", str(port), *words)
        command = Command(argv, {}, str(Path.cwd()))
        log = run.logs / f"engine-{name}.log"
        processes.append(EngineProcess(engine, command, log, grace_s=0.5, identity=(name, *words)))
        models.append(ServedModel(name, engine))

    def open_knowledge() -> Knowledge:
        rows = _Rows(what)
        return Knowledge(rows, rows)

    return Service(
        lineup=Lineup(ModelTable(models), tuple(processes)),
        settings=GatewaySettings(),
        host="127.0.0.1",
        port=0,
        start_timeout_s=20,
        run_folder=run.folder,
        open_knowledge=open_knowledge,
        index_version=what.version,
        index_identity=what.version,
    )


@dataclass
class Up:
    """A service that is up, and what its clients have seen so far."""

    run: Run
    url: str
    what: What
    seen: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Ask `tuned` once, as a stream, and count its answer by length and index version."""
        body = {"model": "tuned", "messages": _MESSAGES, "stream": True}
        try:
            response = await client.post(f"{self.url}/chat/completions", json=body)
            length = response.text.count("字")
            if response.status_code != 200 or "[DONE]" not in response.text:
                self.faults.append(f"{response.status_code}: {response.text[:300]}")
            self.seen["tuned", length, response.headers["X-KB-Version"]] += 1
        except httpx.HTTPError as error:
            self.faults.append(repr(error))

    async def reload(self) -> None:
        """Ask for a reload as `groundtune serve reload` does, and wait for its outcome."""
        before = last_reload(self.run).number
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(30):
            while last_reload(self.run).number == before:
                await asyncio.sleep(0.05)

    async def pid(self, engine: str) -> int:
        """The process that answers for an engine, found by what it listens on."""
        family = Path(f"/proc/{os.getpid()}/task").iterdir()
        launchers = [pid for task in family for pid in (task / "children").read_text().split()]
        children = [
            int(child)
            for pid in launchers
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
        wanted = b"1" if engine == "base" else str(self.what.num_texts).encode()
        (found,) = [
            pid for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[5] == wanted
        ]
        return found


@asynccontextmanager
async def _up(tmp_path: Path) -> AsyncIterator[Up]:
    run, what = Workspace(tmp_path).run("r"), What()
    run.folder.mkdir(parents=True)
    bound = bind_port("127.0.0.1", 0)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    source = Source(prepare=lambda: _service(run, what), index_version=lambda: what.version)
    running = asyncio.ensure_future(_run(_service(run, what), bound, ready.set_result, source))
    try:
        await asyncio.wait({running, ready}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        yield Up(run, ready.result(), what)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        bound.close()


@asynccontextmanager
async def _load(up: Up, num_clients: int = 8) -> AsyncIterator[None]:
    """Keep clients asking, one question after the other, while the block runs."""
    is_over = asyncio.Event()

    async def client_life() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            while not is_over.is_set():
                await up.ask(client)

    clients = [asyncio.ensure_future(client_life()) for _ in range(num_clients)]
    yield
    is_over.set()
    await asyncio.gather(*clients)


async def _several(up: Up, key: tuple[str, int, str], count: int = 20) -> None:
    """Wait until `count` more answers of that kind were seen."""
    until = up.seen[key] + count
    async with asyncio.timeout(20):
        while up.seen[key] < until:
            await asyncio.sleep(0.02)


def test_a_new_model_and_back_without_a_failed_request(tmp_path: Path) -> None:
    async def act() -> None:
        async with _up(tmp_path) as up:
            old, base = await up.pid("tuned"), await up.pid("base")
            async with _load(up):
                await _several(up, ("tuned", 3, "v1"))
                up.what.num_texts = 5
                await up.reload()
                assert last_reload(up.run).is_done
                await _several(up, ("tuned", 5, "v1"))
                assert await asyncio.to_thread(gone_within, [old], 10)
                # What did not change was not started again.
                assert await up.pid("base") == base
                before = up.seen["tuned", 3, "v1"]
                await _several(up, ("tuned", 5, "v1"))
                assert up.seen["tuned", 3, "v1"] == before
                up.what.num_texts = 3
                await up.reload()
                await _several(up, ("tuned", 3, "v1"))
            assert up.faults == []
            assert set(up.seen) == {("tuned", 3, "v1"), ("tuned", 5, "v1")}
            assert running_pid(up.run) == os.getpid()

    asyncio.run(act())


def test_another_version_of_the_index_is_served_without_being_asked(tmp_path: Path) -> None:
    async def act() -> None:
        async with _up(tmp_path) as up:
            engine = await up.pid("tuned")
            async with _load(up):
                await _several(up, ("tuned", 3, "v1"))
                up.what.version = "v2"
                await _several(up, ("tuned", 3, "v2"))
                up.what.version = "v1"
                await _several(up, ("tuned", 3, "v1"))
            assert up.faults == []
            async with asyncio.timeout(5):
                while up.what.closed != ["v1", "v2"]:
                    await asyncio.sleep(0.05)
            assert await up.pid("tuned") == engine

    asyncio.run(act())


def test_what_does_not_start_changes_nothing(tmp_path: Path) -> None:
    async def act() -> None:
        async with _up(tmp_path) as up:
            async with _load(up):
                up.what.num_texts = None
                await up.reload()
                await _several(up, ("tuned", 3, "v1"))
            outcome = last_reload(up.run)
            assert not outcome.is_done
            assert "engine 'tuned' ended with status 2" in outcome.message
            assert up.faults == []

    asyncio.run(act())


def test_reload_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDTUNE_VAR", str(tmp_path))
    with pytest.raises(GroundTuneError, match="no server is up"):
        reload("r", 1.0)
