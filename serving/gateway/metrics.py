"""/metrics: the gateway's numbers in Prometheus' text format. The only module that imports prometheus_client.

Counts requests from their records, when they are over; what is going on now is read when it is asked for.
Labels take their values from what is served, never from what a client sent: their number stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.gateway.gate import Gate
from serving.gateway.record import RequestRecord

_ROUTES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/models": "models",
    "/v1/vector_stores/": "search",
    "/kb/rows/": "rows",
    "/health/": "health",
    "/metrics": "metrics",
}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SECONDS_A_TOKEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_STAGES = ("embed", "retrieve", "rerank")
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class GatewayMetrics:
    """An observer of requests that keeps count of them, and what /metrics shows."""

    def __init__(self, gates: Mapping[str, Gate], engine_restarts: Callable[[], Mapping[str, int]]) -> None:
        """`engine_restarts` returns how often each engine was started again."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "groundtune_requests",
            "Requests that are over.",
            ("route", "model", "status"),
            registry=self.registry,
        )
        self._errors = Counter(
            "groundtune_request_errors",
            "Requests that went wrong, by code.",
            ("route", "model", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "groundtune_request_seconds",
            "From the request to the end of its answer.",
            ("route", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "groundtune_time_to_first_token_seconds",
            "From the request to the engine's first text, retrieval and waiting included.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._per_token = Histogram(
            "groundtune_time_per_output_token_seconds",
            "Mean time between two tokens of an answer, after the first.",
            ("model",),
            buckets=_SECONDS_A_TOKEN,
            registry=self.registry,
        )
        self._tokens = Counter(
            "groundtune_tokens", "Tokens as engines counted them.", ("model", "kind"), registry=self.registry
        )
        self._stage = Histogram(
            "groundtune_retrieval_stage_seconds",
            "Time of a stage of retrieval.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "groundtune_refusals",
            "Questions without an answer in the rows.",
            ("model",),
            registry=self.registry,
        )
        self._retries = Counter(
            "groundtune_engine_retries",
            "Requests asked again of an engine.",
            ("model",),
            registry=self.registry,
        )
        self.registry.register(_Now(gates, engine_restarts))

    def __call__(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        route, model = route_of(record.path), record.model
        self._requests.labels(route, model, str(record.status)).inc()
        if record.error:
            self._errors.labels(route, model, record.error).inc()
        if record.ended_s is not None:
            self._seconds.labels(route, model).observe(record.ended_s - record.started_s)
        for stage in _STAGES:
            if stage in record.marks:
                self._stage.labels(stage).observe(record.marks[stage] / 1000)
        if record.is_refusal:
            self._refusals.labels(model).inc()
        if record.num_retries:
            self._retries.labels(model).inc(record.num_retries)
        self._count_tokens(record)

    def _count_tokens(self, record: RequestRecord) -> None:
        for kind in ("prompt", "completion"):
            if counted := record.tokens(f"{kind}_tokens"):
                self._tokens.labels(record.model, kind).inc(counted)
        first_s, last_s = record.first_text_s, record.last_text_s
        if first_s is None or last_s is None:
            return
        self._first_token.labels(record.model).observe(first_s - record.started_s)
        num_tokens = record.tokens("completion_tokens") or record.num_pieces
        if num_tokens > 1 and last_s > first_s:
            self._per_token.labels(record.model).observe((last_s - first_s) / (num_tokens - 1))


class _Now(Collector):
    """What holds at the moment of asking."""

    def __init__(self, gates: Mapping[str, Gate], engine_restarts: Callable[[], Mapping[str, int]]) -> None:
        self._gates = gates
        self._engine_restarts = engine_restarts

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily(
            "groundtune_requests_in_flight", "Requests that an engine is answering.", labels=["engine"]
        )
        waiting = GaugeMetricFamily(
            "groundtune_queue_depth", "Requests that wait for their turn.", labels=["engine"]
        )
        restarts = CounterMetricFamily(
            "groundtune_engine_restarts", "How often an engine was started again.", labels=["engine"]
        )
        for name, gate in self._gates.items():
            running.add_metric([name], gate.num_running)
            waiting.add_metric([name], gate.num_waiting)
        for name, number in self._engine_restarts().items():
            restarts.add_metric([name], number)
        return (running, waiting, restarts)


def metrics_routes(metrics: GatewayMetrics) -> APIRouter:
    """Return /metrics."""
    router = APIRouter()

    @router.get("/metrics")
    async def show() -> Response:
        return Response(generate_latest(metrics.registry), media_type=_CONTENT_TYPE)

    return router


def route_of(path: str) -> str:
    """Return the name of the route that `path` belongs to; "other" for a path that there is not."""
    for beginning, name in _ROUTES.items():
        if path == beginning or path.startswith(beginning.rstrip("/") + "/"):
            return name
    return "other"
