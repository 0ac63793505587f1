"""Runs engines and gateway as one service: up together, down together.

The gateway runs in this process; the engines are its children and cannot outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from starlette.types import ASGIApp

from serving.bookkeeping import opened_access, request_log
from serving.engines.client import engine_client
from serving.engines.ports import bind_port
from serving.garbage import settle
from serving.gateway.parts import GatewaySettings
from serving.lineup import Lineup
from serving.release import Release, make_release, retire
from serving.reloading import Source, reload_when_asked
from serving.settings import LogPlace
from serving.state import announced
from serving.switch import Switch

if TYPE_CHECKING:
    from data.diff.changes import Change
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
        index_version: The index's version, None where there is none.
        index_identity: Equal for two services that would open the same index in the same way.
        stale: What the tuned model learned and is no longer so; questions about it are answered from the rows.
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
    index_version: str | None = None
    index_identity: Hashable = None
    stale: Sequence[Change] = ()
    keys: Path | None = None
    public_paths: tuple[str, ...] = ("/health/",)
    log: LogPlace = "off"


def run_service(service: Service, on_ready: Callable[[str], None], source: Source | None = None) -> None:
    """Run until SIGINT or SIGTERM; `on_ready` gets the API's URL once every engine has produced a token.

    `source`: where newer models and a newer index come from while it runs; None: nowhere.

    Raises:
        UsageError: the port is in use; nothing was started.
        GroundTuneError: an engine did not start.
    """
    bound = bind_port(service.host, service.port)
    try:
        # A third of a request's time less than in asyncio's own loop.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run_until_signal(service, bound, on_ready, source))
    finally:
        bound.close()


async def _run_until_signal(
    service: Service, bound: socket.socket, on_ready: Callable[[str], None], source: Source | None
) -> None:
    running = asyncio.ensure_future(_run(service, bound, on_ready, source))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run(
    service: Service, bound: socket.socket, on_ready: Callable[[str], None], source: Source | None
) -> None:
    folder = service.run_folder
    async with engine_client() as client, contextlib.AsyncExitStack() as stack:
        access = await stack.enter_async_context(
            opened_access(service.keys, service.public_paths, folder / _SPENT)
        )
        observers = stack.enter_context(request_log(service.log, folder / "logs"))
        release = await make_release(service, client, access, observers)
        switch = Switch(release.app)
        retiring: set[asyncio.Task[None]] = set()
        # An engine that two releases share ends with the later one, so the earlier must be empty before.
        in_turn = asyncio.Lock()

        async def take_up(next_service: Service) -> None:
            nonlocal release
            before, release = release, await make_release(next_service, client, access, observers, release)
            switch.switch(release.app)
            task = asyncio.ensure_future(retire_when_drained(before, release))
            retiring.add(task)
            task.add_done_callback(retiring.discard)

        async def retire_when_drained(old: Release, new: Release) -> None:
            try:
                async with in_turn:
                    await switch.drained(old.app, old.service.settings.request_timeout_s)
            finally:
                await retire(old, new)
                settle()

        def announce() -> None:
            settle()
            url = _url(bound)
            stack.enter_context(announced(folder, url))
            on_ready(url)

        async def stop() -> None:
            for task in tuple(retiring):
                task.cancel()
            await asyncio.gather(*retiring, return_exceptions=True)
            await retire(release, None)

        reloading = None
        if source is not None:
            reloading = asyncio.ensure_future(
                reload_when_asked(source, service.index_version, folder, take_up)
            )
        try:
            await _serve(switch, bound, stop, announce)
        finally:
            if reloading is not None:
                reloading.cancel()
                await asyncio.gather(reloading, return_exceptions=True)
            await stop()


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
