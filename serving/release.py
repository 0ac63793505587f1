"""What is served at one time, models and index together, and how the next takes its place.

The next is made ready beside: engines whose model did not change are kept, the others are started, the index is
opened. Only then do requests go to it. The engines and the index that only the old one used are let go when its
last request is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
from starlette.types import ASGIApp

from serving.engines.keeper import Keeper, keeping
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines
from serving.gateway.admission import Access
from serving.gateway.app import create_gateway
from serving.gateway.edge import Observer
from serving.gateway.models import ModelTable

if TYPE_CHECKING:
    from serving.service import Knowledge, Service


@dataclass(frozen=True)
class KeptEngine:
    """A process that is up, what keeps it so, and how to end that."""

    process: EngineProcess
    keeper: Keeper
    let_go: contextlib.AsyncExitStack

    async def stop(self) -> None:
        """Stop the process for good."""
        await self.let_go.aclose()  # or it would be started again
        await asyncio.to_thread(stop_engines, [self.process])


@dataclass(frozen=True)
class Release:
    """Everything that one release is served from."""

    service: Service
    engines: Mapping[str, KeptEngine]
    knowledge: Knowledge | None
    app: ASGIApp


async def make_release(
    service: Service,
    client: httpx.AsyncClient,
    access: Access | None,
    observers: Sequence[Observer],
    before: Release | None = None,
) -> Release:
    """Start and open what `before` does not have; on failure nothing new is left and `before` is as it was.

    Raises:
        GroundTuneError: an engine did not start, or the index cannot be opened.
    """
    kept = {one.process.identity: one for one in before.engines.values()} if before else {}
    new = [process for process in service.lineup.processes if process.identity not in kept]
    is_same_index = before is not None and before.service.index_identity == service.index_identity
    starting = asyncio.ensure_future(start_engines(new, client, service.start_timeout_s))
    try:
        knowledge = before.knowledge if before is not None and is_same_index else None
        if service.open_knowledge is not None and knowledge is None:
            knowledge, _ = await asyncio.gather(_in_thread(service.open_knowledge), starting)
        await starting
    except BaseException:
        # Where the index could not be opened, the engines are still on their way up.
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.to_thread(stop_engines, new)
        raise
    engines = {}
    for process in service.lineup.processes:
        one = kept.get(process.identity) or await _keep(process, client, service.start_timeout_s)
        # Under the name of the new lineup, on the port of the process that runs.
        engines[process.engine.name] = one
    running = {name: one.process.engine for name, one in engines.items()}
    models = ModelTable(
        [
            replace(model, engine=running.get(model.engine.name, model.engine))
            for model in service.lineup.models
        ]
    )
    stale = None
    if knowledge is not None and service.stale:
        from rag.stale import StaleGuard

        # Embeds the questions of rows that are gone.
        stale = await asyncio.to_thread(StaleGuard, service.stale, knowledge.index)
    app = create_gateway(
        models,
        client=client,
        settings=service.settings,
        knowledge=knowledge.index if knowledge else None,
        grounder=knowledge.grounder if knowledge else None,
        unanswered=knowledge.unanswered if knowledge else None,
        stale=stale,
        access=access,
        lives={name: one.keeper for name, one in engines.items()},
        observers=observers,
    )
    return Release(service, engines, knowledge, app)


async def retire(old: Release, new: Release | None) -> None:
    """Stop the engines and close the index of `old` that `new` does not use."""
    in_use = {id(one) for one in new.engines.values()} if new else set()
    await asyncio.gather(*(one.stop() for one in old.engines.values() if id(one) not in in_use))
    if new is not None and old.knowledge is not None and old.knowledge is not new.knowledge:
        await asyncio.to_thread(old.knowledge.index.close)


async def _keep(process: EngineProcess, client: httpx.AsyncClient, start_timeout_s: float) -> KeptEngine:
    stack = contextlib.AsyncExitStack()
    keepers = await stack.enter_async_context(keeping([process], client, start_timeout_s))
    return KeptEngine(process, keepers[process.engine.name], stack)


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
