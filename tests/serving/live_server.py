"""Runs an ASGI application on a port of its own, in a thread, so that tests reach it as clients do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import uvicorn
from starlette.types import ASGIApp

from serving.engines.client import engine_client
from serving.engines.ports import bind_port


@contextlib.contextmanager
def live_server(build: Callable[[httpx.AsyncClient], ASGIApp]) -> Iterator[str]:
    """Yield the address, as in http://127.0.0.1:41234, of a server for the application that `build` returns.

    `build` is called with an HTTP client that lives as long as the server, in its event loop.
    """
    bound = bind_port("127.0.0.1", 0)
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        async with engine_client() as client:
            config = uvicorn.Config(
                build(client), log_level="error", lifespan="off", timeout_graceful_shutdown=1
            )
            servers.append(uvicorn.Server(config))
            await servers[0].serve(sockets=[bound])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    while not (servers and servers[0].started):
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join(10)
        bound.close()
