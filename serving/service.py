"""Runs engines and gateway as one service: up together, down together.

The gateway runs in this process; the engines are its children and cannot outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from starlette.types import ASGIApp

from serving.bookkeeping import opened_access, request_log
from serving.engines.client import engine_client
from serving.engines.keeper import keeping
from serving.engines.ports import bind_port
from serving.engines.supervisor import start_engines, stop_engines
from serving.gateway.app import create_gateway
from serving.gateway.parts import GatewaySettings
from serving.lineup import Lineup
from serving.settings import LogPlace
from serving.state import announced

if TYPE_CHECKING:
    from rag.grounding import Grounder
    from rag.knowledge import KnowledgeIndex
    from rag.unanswered import UnansweredLog

_LAST_ANSWERS_S = 2.0
_SHUTDOWN_S = 7
_SPENT = "tokens-today.json"


@dataclass(frozen=True)
class Knowledge:
    """An opened index, what grounds questions in it, and where those without an answer are kept (None: nowhere)."""

    index: KnowledgeIndex
    grounder: Grounder
    unanswered: UnansweredLog | None = None


@dataclass(frozen=True)
class Service:
    """What is to be run.

    Attributes:
        lineup: The models and the engines to start for them.
        settings: The gateway's.
        host: Address to listen on.
        port: 0 lets the system choose.
        start_timeout_s: How long an engine may take to its first token.
        run_folder: Holds serve.json while the service is up.
        open_knowledge: Opens the index, while the engines start; None where there is none.
        keys: The file of keys to ask for; None to ask for none.
        public_paths: Beginnings of paths that open without a key.
        log: Where the line for each request goes.
    """

    lineup: Lineup
    settings: GatewaySettings
    host: str
    port: int
    start_timeout_s: float
    run_folder: Path
    open_knowledge: Callable[[], Knowledge] | None
    keys: Path | None = None
    public_paths: tuple[str, ...] = ("/health/",)
    log: LogPlace = "off"


def run_service(service: Service, on_ready: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; `on_ready` gets the API's URL once every engine has produced a token.

    Raises:
        UsageError: the port is in use; nothing was started.
        GroundTuneError: an engine did not start.
    """
    bound = bind_port(service.host, service.port)
    try:
        # A third of a request's time less than in asyncio's own loop.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_until_signal(service, bound, on_ready))
    finally:
        bound.close()


async def _run_until_signal(service: Service, bound: socket.socket, on_ready: Callable[[str], None]) -> None:
    running = asyncio.ensure_future(_run(service, bound, on_ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run(service: Service, bound: socket.socket, on_ready: Callable[[str], None]) -> None:
    processes = service.lineup.processes
    async with engine_client() as client:
        starting = asyncio.ensure_future(start_engines(processes, client, service.start_timeout_s))
        try:
            knowledge = None
            if service.open_knowledge is not None:
                knowledge, _ = await asyncio.gather(_in_thread(service.open_knowledge), starting)
            await starting
            async with contextlib.AsyncExitStack() as stack:
                folder = service.run_folder
                access = await stack.enter_async_context(
                    opened_access(service.keys, service.public_paths, folder / _SPENT)
                )
                keepers = contextlib.AsyncExitStack()
                stack.push_async_callback(keepers.aclose)
                lives = await keepers.enter_async_context(keeping(processes, client, service.start_timeout_s))
                app = create_gateway(
                    service.lineup.models,
                    client=client,
                    settings=service.settings,
                    knowledge=knowledge.index if knowledge else None,
                    grounder=knowledge.grounder if knowledge else None,
                    unanswered=knowledge.unanswered if knowledge else None,
                    access=access,
                    lives=lives,
                    observers=stack.enter_context(request_log(service.log, folder / "logs")),
                )

                def announce() -> None:
                    url = _url(bound)
                    stack.enter_context(announced(folder, url))
                    on_ready(url)

                async def stop() -> None:
                    await keepers.aclose()  # or they would be started again
                    await asyncio.to_thread(stop_engines, processes)

                await _serve(app, bound, stop, announce)
        finally:
            # Where the index could not be opened, the engines are still on their way up.
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            stop_engines(processes)


def _in_thread(work: Callable[[], Knowledge]) -> Awaitable[Knowledge]:
    """Do `work` in a thread that nobody waits for when the service is interrupted; it cannot be stopped."""
    result: Future[Knowledge] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="open-index", daemon=True).start()
    return asyncio.wrap_future(result)


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end this process before the engines are stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    app: ASGIApp, bound: socket.socket, stop: Callable[[], Awaitable[None]], on_ready: Callable[[], None]
) -> None:
    """Serve until cancelled.

    Then answers that are nearly done may end. Those that are not end with an error that says why, because
    their engine is stopped: a client can tell it from a complete answer.
    """
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_S, lifespan="off", server_header=False
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            on_ready()
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await asyncio.wait({serving}, timeout=_LAST_ANSWERS_S)
        if not serving.done():
            await stop()
            await serving
        raise


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    # Listening everywhere is no address that a client could use.
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/v1"
