"""A gateway as a process of its own, before engines that run already or that it keeps running itself.

    python -m tests.serving.gateway_process PORT URL [URL ...]         one engine of these servers
    python -m tests.serving.gateway_process PORT --keep FOLDER ARG...   starts tests.serving.engine_process ARG...

Behind the URLs may stand `--running N` and `--waiting N` (places of the engine), `--keys FILE` (asks for those keys)
and `--rows` (serves `base-rag` and all that there is about rows, from a knowledge base of three).

GET /debug tells the process id and how many tasks and open files it has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import uvicorn
import uvloop
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.budgets import Budgets
from serving.access.keys import KeyRing
from serving.engines.client import engine_client
from serving.engines.engine import Command, Engine
from serving.engines.keeper import keeping
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines
from serving.gateway.admission import Access
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from tests.serving.knowledge import ThreeRows

_SETTINGS = GatewaySettings(ready_window_s=0.0, engine_timeout_s=20.0)
_ACCEPTS = frozenset({"stream_options"})


def _with_debug(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/debug":
            counts = {
                "pid": os.getpid(),
                "num_tasks": len(asyncio.all_tasks()),
                "num_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            }
            await JSONResponse(counts)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


async def _serve(options: argparse.Namespace) -> None:
    async with engine_client() as client, contextlib.AsyncExitStack() as stack:
        lives = {}
        if options.keep:
            (engine_port,) = free_ports(1)
            engine = Engine("base", f"http://127.0.0.1:{engine_port}/v1", "m", _ACCEPTS)
            argv = (sys.executable, "-m", "tests.serving.engine_process", str(engine_port), *options.keep[1:])
            process = EngineProcess(
                engine, Command(argv, {}, str(Path.cwd())), Path(options.keep[0]) / "e.log", grace_s=0.5
            )
            await start_engines([process], client, 30)
            stack.callback(stop_engines, [process])
            lives = dict(await stack.enter_async_context(keeping([process], client, 30)))
        else:
            first, *more = (f"{url}/v1" for url in options.engines)
            engine = Engine("base", first, "m", _ACCEPTS, more_urls=tuple(more))
        models = [ServedModel("base", engine)]
        knowledge = ThreeRows() if options.rows else None
        if knowledge:
            models.append(ServedModel("base-rag", engine, grounded=True))
        access = None
        if options.keys:
            budgets = Budgets(time.time, time.monotonic)
            access = Access(KeyRing(options.keys, time.monotonic), budgets)
        app = create_gateway(
            ModelTable(models),
            client=client,
            settings=dataclasses.replace(
                _SETTINGS,
                max_running=options.running,
                max_waiting=options.waiting,
                max_requests=max(256, options.running + options.waiting),
            ),
            knowledge=knowledge,
            grounder=knowledge,
            access=access,
            lives=lives,
        )
        config = uvicorn.Config(
            _with_debug(app),
            port=options.port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--running", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=50)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--keep", nargs=argparse.REMAINDER)
    parser.add_argument("engines", nargs="*")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))
