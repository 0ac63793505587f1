"""What every route of the gateway is given. Built once by `create_gateway`, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from starlette.requests import Request

from serving.access.budgets import Budgets
from serving.engines.upstream import Upstream
from serving.gateway.clock import Clock
from serving.gateway.gate import Gate
from serving.gateway.health import EngineHealth
from serving.gateway.lengths import PromptMeter
from serving.gateway.models import ModelTable
from serving.gateway.record import RequestRecord

if TYPE_CHECKING:
    from rag.grounding import Grounder
    from rag.knowledge import KnowledgeIndex
    from rag.stale import StaleGuard
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
        request_timeout_s: Longest time of one request, the wait for its turn included.
        restart_wait_s: How long a request waits for an engine that is being started again.
        max_requests: Most requests with a body in the gateway at once; more are refused with 429.
        max_running: Most requests that one engine is asked at once.
        max_waiting: Most requests that wait for their turn at one engine; more are refused with 429.
        wait_timeout_s: Longest wait for a turn.
        max_body_bytes: Largest body of a request; larger ones are refused with 413.
        body_timeout_s: How long a body may take to come.
        cors_origins: Origins whose pages may call the service; none by default.
        log_prompts: Whether the log has what was asked.
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
    request_timeout_s: float = 600.0
    restart_wait_s: float = 60.0
    max_requests: int = 256
    max_running: int = 32
    max_waiting: int = 64
    wait_timeout_s: float = 30.0
    max_body_bytes: int = 1 << 20
    body_timeout_s: float = 20.0
    cors_origins: tuple[str, ...] = ()
    log_prompts: bool = False


@dataclass(frozen=True)
class Gateway:
    """The parts that the routes work with.

    `gates` and `upstreams` by the engine's name; `knowledge` and `grounder` are None without an
    index, `budgets` without keys; `unanswered`: questions without an answer are not kept;
    `stale`: the tuned model learned nothing that has changed since.
    """

    models: ModelTable
    client: httpx.AsyncClient
    settings: GatewaySettings
    health: EngineHealth
    meter: PromptMeter
    clock: Clock
    gates: Mapping[str, Gate]
    upstreams: Mapping[str, Upstream]
    budgets: Budgets | None
    knowledge: KnowledgeIndex | None
    grounder: Grounder | None
    unanswered: UnansweredLog | None = None
    stale: StaleGuard | None = None

    def base_url(self, request: Request) -> str:
        """Return the address that links in answers begin with, without a slash at its end."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    def left_s(self, record: RequestRecord) -> float:
        """Return how long the request may still take, in seconds."""
        passed_s = self.clock.elapsed_s() - record.started_s
        return max(0.0, self.settings.request_timeout_s - passed_s)
