"""A gateway as a process of its own, before engines that run already or that it keeps running itself.

    python -m tests.serving.gateway_process PORT URL [URL ...]         one engine of these servers
    python -m tests.serving.gateway_process PORT --keep FOLDER ARG...   starts tests.serving.engine_process ARG...

GET /debug tells how many tasks and open files the process has.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engines.client import engine_client
from serving.engines.engine import Command, Engine
from serving.engines.keeper import keeping
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings

_SETTINGS = GatewaySettings(max_running=200, max_waiting=50, ready_window_s=0.0, engine_timeout_s=20.0)
_ACCEPTS = frozenset({"stream_options"})


def _with_debug(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/debug":
            counts = {
                "num_tasks": len(asyncio.all_tasks()),
                "num_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            }
            await JSONResponse(counts)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


async def _serve(port: int, arguments: list[str]) -> None:
    async with engine_client() as client, contextlib.AsyncExitStack() as stack:
        lives = {}
        if arguments[0] == "--keep":
            (engine_port,) = free_ports(1)
            engine = Engine("base", f"http://127.0.0.1:{engine_port}/v1", "m", _ACCEPTS)
            argv = (sys.executable, "-m", "tests.serving.engine_process", str(engine_port), *arguments[2:])
            process = EngineProcess(
                engine, Command(argv, {}, str(Path.cwd())), Path(arguments[1]) / "e.log", grace_s=0.5
            )
            await start_engines([process], client, 30)
            stack.callback(stop_engines, [process])
            lives = dict(await stack.enter_async_context(keeping([process], client, 30)))
        else:
            first, *more = (f"{url}/v1" for url in arguments)
            engine = Engine("base", first, "m", _ACCEPTS, more_urls=tuple(more))
        models = ModelTable([ServedModel("base", engine)])
        app = create_gateway(models, client=client, settings=_SETTINGS, lives=lives)
        config = uvicorn.Config(
            _with_debug(app), port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2:]))
