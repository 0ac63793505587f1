"""Engine processes: a small stand-in that speaks the protocol, started and stopped for real."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from data.errors import GroundTuneError
from serving.engines.client import engine_client
from serving.engines.engine import Command, Engine
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines

_STAND_IN = """
import http.server, json, sys, time
delay_s, port = float(sys.argv[1]), int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"usage": {"completion_tokens": 1}}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("loading", flush=True)
time.sleep(delay_s)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def _process(tmp_path: Path, name: str, *argv: str) -> EngineProcess:
    (port,) = free_ports(1)
    engine = Engine(name, f"http://127.0.0.1:{port}/v1", "m", frozenset())
    command = Command((sys.executable, "-c", *(argv or (_STAND_IN, "0.3")), str(port)), {}, str(tmp_path))
    return EngineProcess(engine, command, tmp_path / "logs" / f"{name}.log", grace_s=0.5)


async def _start(processes: list[EngineProcess], timeout_s: float) -> None:
    async with engine_client() as client:
        await start_engines(processes, client, timeout_s)


def test_ready_means_a_token_and_stop_leaves_nothing(tmp_path: Path) -> None:
    processes = [_process(tmp_path, "one"), _process(tmp_path, "two")]
    asyncio.run(_start(processes, 20))
    pids = [process.pid for process in processes]
    assert [process.exit_status for process in processes] == [None, None]
    started = time.monotonic()
    stop_engines(processes)
    assert time.monotonic() - started < 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_engine_that_dies_is_told_with_its_log_and_takes_the_others_down(tmp_path: Path) -> None:
    crash = "print('line 1'); print('CUDA out of memory'); raise SystemExit(3)"
    processes = [_process(tmp_path, "good"), _process(tmp_path, "bad", crash)]
    with pytest.raises(GroundTuneError, match=r"engine 'bad' ended with status 3(?s:.*)CUDA out of memory"):
        asyncio.run(_start(processes, 20))
    assert processes[0].exit_status is not None


def test_engine_that_takes_too_long(tmp_path: Path) -> None:
    process = _process(tmp_path, "slow", _STAND_IN, "60")
    with pytest.raises(
        GroundTuneError, match=r"not ready within 1 s(?s:.*)serve.start_timeout_s(?s:.*)loading"
    ):
        asyncio.run(_start([process], 1))
    assert process.exit_status is not None


def test_stopping_works_when_the_launcher_was_killed(tmp_path: Path) -> None:
    process = _process(tmp_path, "one")
    asyncio.run(_start([process], 20))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    stop_engines([process])
    assert process.exit_status == -signal.SIGKILL


def test_stopping_what_was_never_started(tmp_path: Path) -> None:
    stop_engines([_process(tmp_path, "one")])
