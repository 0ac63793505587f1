"""The gateway as an ASGI application, put together from its parts.

Knows nothing of processes, ports and files: engines, index, HTTP client and clock are given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serving.engines.upstream import EngineLife, Upstream
from serving.gateway.admission import Access, Admission
from serving.gateway.chat import chat_routes
from serving.gateway.clock import Clock
from serving.gateway.completions import completion_routes
from serving.gateway.contract import Contract, install_contract
from serving.gateway.edge import Edge, Observer
from serving.gateway.embeddings import embedding_routes
from serving.gateway.errors import install_error_handlers
from serving.gateway.gate import Gate
from serving.gateway.health import EngineHealth, health_routes
from serving.gateway.lengths import PromptMeter
from serving.gateway.listing import listing_routes
from serving.gateway.metrics import GatewayMetrics, metrics_routes
from serving.gateway.models import ModelTable
from serving.gateway.page import WebPage
from serving.gateway.parts import Gateway, GatewaySettings
from serving.gateway.rows import row_routes
from serving.gateway.search import search_routes

if TYPE_CHECKING:
    from rag.grounding import Grounder
    from rag.knowledge import KnowledgeIndex
    from rag.stale import StaleGuard
    from rag.unanswered import UnansweredLog


def create_gateway(
    models: ModelTable,
    *,
    client: httpx.AsyncClient,
    settings: GatewaySettings,
    knowledge: KnowledgeIndex | None = None,
    grounder: Grounder | None = None,
    unanswered: UnansweredLog | None = None,
    stale: StaleGuard | None = None,
    clock: Clock | None = None,
    access: Access | None = None,
    observers: Sequence[Observer] = (),
    lives: Mapping[str, EngineLife] | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        client: The one HTTP client for all engines; the caller closes it.
        knowledge: The index behind rows, search and embeddings; without one those routes do not exist.
        grounder: Needed where a model of `models` is grounded.
        unanswered: Where questions without an answer are kept; None: nowhere.
        stale: Questions whose answers the tuned model learned wrong; None: there are none.
        access: The keys to ask for; without it nobody is asked for one.
        observers: Get the record of every request when it is over.
        lives: Of the engines that are started again when they end, by name: requests wait for them.

    Raises:
        ValueError: a model is grounded and there is nothing to ground it in.
    """
    if grounder is None and any(model.grounded for model in models):
        raise ValueError("a grounded model needs a grounder")
    clock = clock or Clock(time.time, time.perf_counter)
    health = EngineHealth(
        client,
        models.engines,
        window_s=settings.ready_window_s,
        probe_timeout_s=settings.probe_timeout_s,
        elapsed_s=clock.elapsed_s,
    )
    gates = {
        engine.name: Gate(
            engine.name,
            max_running=settings.max_running,
            max_waiting=settings.max_waiting,
            timeout_s=settings.wait_timeout_s,
            elapsed_s=clock.elapsed_s,
        )
        for engine in models.engines
    }
    lives = lives or {}
    upstreams = {
        engine.name: Upstream(engine, clock.elapsed_s, lives.get(engine.name)) for engine in models.engines
    }

    def restarts() -> dict[str, int]:
        return {name: life.num_restarts for name, life in lives.items()}

    gateway = Gateway(
        models=models,
        client=client,
        settings=settings,
        health=health,
        meter=PromptMeter(),
        clock=clock,
        gates=gates,
        upstreams=upstreams,
        budgets=access.budgets if access is not None else None,
        knowledge=knowledge,
        grounder=grounder,
        unanswered=unanswered,
        stale=stale,
    )
    metrics = GatewayMetrics(gates, restarts)
    # Its documentation pages load scripts from elsewhere; /openapi.json says the same.
    app = FastAPI(title="GroundTune", redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    page = WebPage()
    # Looked through in this order: what is asked for most comes first.
    routers = [
        chat_routes(gateway),
        completion_routes(gateway),
        listing_routes(gateway),
        health_routes(health),
        metrics_routes(metrics),
        page.routes(),
    ]
    if knowledge is not None:
        routers.append(embedding_routes(knowledge, settings.embedding_id, settings.request_timeout_s))
        routers.append(search_routes(gateway, knowledge))
        routers.append(row_routes(knowledge))
    for router in routers:
        app.include_router(router)
    contract = Contract(
        chat_ids=models.ids,
        completion_ids=tuple(model.model_id for model in models if not model.grounded),
        embedding_id=settings.embedding_id,
        kb_id=settings.kb_id,
        public_paths=access.public_paths if access is not None else None,
    )
    install_contract(app, contract)
    admission = Admission(
        app,
        access=access,
        open_paths=page.paths,
        max_requests=settings.max_requests,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
    )
    headers = {"X-KB-Version": knowledge.version} if knowledge is not None else {}
    inner = _with_cors(admission, settings.cors_origins) if settings.cors_origins else admission
    return Edge(inner, clock=clock, headers=headers, observers=(metrics, *observers))


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let the pages of `origins` call; outside of the keys, because a browser asks first and without one."""
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
        expose_headers=["Retry-After", "Server-Timing", "X-KB-Version", "X-Request-Id"],
    )
