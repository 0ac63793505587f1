"""Engines that end, that cannot start, and that run without working: small stand-ins, killed for real."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from serving.engines.client import engine_client
from serving.engines.engine import Command, Engine
from serving.engines.keeper import Keeper, RestartPolicy
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines

# Behaves by what the file says when it is asked: works, ends, or answers with an error. Counts its starts.
_STAND_IN = """
import http.server, json, os, pathlib, sys
mode, starts, port = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
with starts.open("a") as file: file.write("x")
if mode.read_text() == "crash": sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if mode.read_text() == "end": os._exit(5)
        status = 503 if mode.read_text() == "dead" else 200
        body = json.dumps({"usage": {"completion_tokens": 1}}).encode()
        self.send_response(status); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
_POLICY = RestartPolicy(first_pause_s=0.05, longest_pause_s=0.4, probe_timeout_s=2.0)


async def _kept(tmp_path: Path, scenario: object) -> list[str]:
    mode, starts = tmp_path / "mode", tmp_path / "starts"
    mode.write_text("works")
    (port,) = free_ports(1)
    engine = Engine("one", f"http://127.0.0.1:{port}/v1", "m", frozenset())
    argv = (sys.executable, "-c", _STAND_IN, str(mode), str(starts), str(port))
    process = EngineProcess(engine, Command(argv, {}, str(tmp_path)), tmp_path / "one.log", grace_s=0.3)
    told: list[str] = []
    async with engine_client() as client:
        await start_engines([process], client, 20)
        keeper = Keeper(process, client, start_timeout_s=20, policy=_POLICY, tell=told.append)
        task = asyncio.ensure_future(keeper.keep())
        try:
            await scenario(keeper, client, mode)  # type: ignore[operator]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            stop_engines([process])
    assert len(starts.read_text()) == keeper.num_restarts + 1
    return told


def test_engine_that_ends_is_up_again(tmp_path: Path) -> None:
    async def scenario(keeper: Keeper, client: object, mode: Path) -> None:
        mode.write_text("end")
        keeper.report_failure()  # the probe that follows ends it
        while not keeper.num_restarts:
            if keeper.process.exit_status is not None:
                mode.write_text("works")
                assert not await keeper.wait_up(0.0, failed_at=0)
            await asyncio.sleep(0.01)
        assert await keeper.wait_up(10)

    told = asyncio.run(_kept(tmp_path, scenario))
    assert "ended with status 5" in told[0]
    assert "up again" in told[-1]
    assert (tmp_path / "one.log.1").exists()


def test_engine_that_runs_without_working_is_started_again(tmp_path: Path) -> None:
    async def scenario(keeper: Keeper, client: object, mode: Path) -> None:
        mode.write_text("dead")
        keeper.report_failure()
        while not keeper.num_restarts:
            if keeper.process.exit_status is not None:
                mode.write_text("works")
            await asyncio.sleep(0.01)
        mode.write_text("works")
        assert await keeper.wait_up(10)

    told = asyncio.run(_kept(tmp_path, scenario))
    assert "produces no token (answers with status 503" in told[0]


def test_engine_that_works_is_left_alone_whatever_is_reported(tmp_path: Path) -> None:
    async def scenario(keeper: Keeper, client: object, mode: Path) -> None:
        started_s = time.monotonic()
        keeper.report_failure()
        assert await keeper.wait_up(10, failed_at=0)
        assert time.monotonic() - started_s >= 0.9
        await asyncio.sleep(0.5)
        assert keeper.num_restarts == 0

    assert asyncio.run(_kept(tmp_path, scenario)) == []


def test_engine_that_cannot_start_is_tried_less_and_less(tmp_path: Path) -> None:
    async def scenario(keeper: Keeper, client: object, mode: Path) -> None:
        mode.write_text("crash")
        keeper.process.stop()
        await asyncio.sleep(2.5)
        assert 3 <= keeper.num_restarts <= 8
        assert not await keeper.wait_up(0.01)
        mode.write_text("works")
        assert await keeper.wait_up(10)

    told = asyncio.run(_kept(tmp_path, scenario))
    assert sum("while starting" in line for line in told) >= 3
