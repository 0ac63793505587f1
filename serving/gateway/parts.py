"""What every route of the gateway is given. Built once by `create_gateway`, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from starlette.requests import Request

from serving.gateway.health import EngineHealth
from serving.gateway.lengths import PromptMeter
from serving.gateway.models import ModelTable

if TYPE_CHECKING:
    from rag.grounding import Grounder
    from rag.knowledge import KnowledgeIndex
    from rag.unanswered import UnansweredLog


@dataclass(frozen=True)
class GatewaySettings:
    """What may be set of the gateway.

    Attributes:
        system_prompt: What `base` and `tuned` get where a request has no system message: the tuned model was
            trained with it. "" adds none.
        max_tokens: Length of an answer where the request does not say.
        temperature: Where the request does not say and the engine samples at all.
        kb_id: The knowledge base's name in /v1/vector_stores/{kb}/search.
        embedding_id: The embedding model's id in /v1/embeddings.
        public_url: How clients reach this server, for links; None takes it from each request.
        engine_timeout_s: Longest silence of an engine before a request ends with 504.
        ready_window_s: How long a token proves that an engine works, for /health/ready.
        probe_timeout_s: How long /health/ready waits for a token of an idle engine.
    """

    system_prompt: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    kb_id: str = "kb"
    embedding_id: str = "embedding"
    public_url: str | None = None
    engine_timeout_s: float = 120.0
    ready_window_s: float = 30.0
    probe_timeout_s: float = 10.0


@dataclass(frozen=True)
class Clock:
    """`now_s` tells the time since 1970 in seconds; `elapsed_s` only ever grows."""

    now_s: Callable[[], float]
    elapsed_s: Callable[[], float]


@dataclass(frozen=True)
class Gateway:
    """The parts that the routes work with.

    `knowledge` and `grounder` are None without an index; `unanswered`: questions without an answer are not kept.
    """

    models: ModelTable
    client: httpx.AsyncClient
    settings: GatewaySettings
    health: EngineHealth
    meter: PromptMeter
    clock: Clock
    knowledge: KnowledgeIndex | None
    grounder: Grounder | None
    unanswered: UnansweredLog | None = None

    def base_url(self, request: Request) -> str:
        """Return the address that links in answers begin with, without a slash at its end."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")
