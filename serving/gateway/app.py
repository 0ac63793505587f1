"""The gateway as an ASGI application, put together from its parts.

Knows nothing of processes, ports and files: engines, index, HTTP client and clock are given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.chat import chat_routes
from serving.gateway.completions import completion_routes
from serving.gateway.embeddings import embedding_routes
from serving.gateway.errors import install_error_handlers
from serving.gateway.health import EngineHealth, health_routes
from serving.gateway.lengths import PromptMeter
from serving.gateway.listing import listing_routes
from serving.gateway.models import ModelTable
from serving.gateway.parts import Clock, Gateway, GatewaySettings
from serving.gateway.rows import row_routes
from serving.gateway.search import search_routes

if TYPE_CHECKING:
    from rag.grounding import Grounder
    from rag.knowledge import KnowledgeIndex
    from rag.unanswered import UnansweredLog


class VersionHeader:
    """Puts the knowledge base's version on every response, errors included."""

    def __init__(self, app: ASGIApp, version: str) -> None:
        self._app = app
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, adding the header to what comes back."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-KB-Version"] = self._version
            await send(message)

        await self._app(scope, receive, send_with_version)


def create_gateway(
    models: ModelTable,
    *,
    client: httpx.AsyncClient,
    settings: GatewaySettings,
    knowledge: KnowledgeIndex | None = None,
    grounder: Grounder | None = None,
    unanswered: UnansweredLog | None = None,
    clock: Clock | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        client: The one HTTP client for all engines; the caller closes it.
        knowledge: The index behind rows, search and embeddings; without one those routes do not exist.
        grounder: Needed where a model of `models` is grounded.
        unanswered: Where questions without an answer are kept; None: nowhere.

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
    gateway = Gateway(models, client, settings, health, PromptMeter(), clock, knowledge, grounder, unanswered)
    # Its documentation pages load scripts from elsewhere; /openapi.json says the same.
    app = FastAPI(title="GroundTune", redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    routers = [
        listing_routes(gateway),
        chat_routes(gateway),
        completion_routes(gateway),
        health_routes(health),
    ]
    if knowledge is not None:
        routers.append(embedding_routes(knowledge, settings.embedding_id))
        routers.append(search_routes(gateway, knowledge))
        routers.append(row_routes(knowledge))
    for router in routers:
        app.include_router(router)
    # Around everything, not as a middleware: those do not see the answer to an error that nobody caught.
    return app if knowledge is None else VersionHeader(app, knowledge.version)
