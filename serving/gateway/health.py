"""/health: alive, and ready in the sense that counts: every engine produced a token lately."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import httpx
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.engines.engine import Engine
from serving.engines.readiness import NotReadyError, produce_token
from serving.gateway.errors import engine_down


class EngineHealth:
    """When each engine last produced a token; asks for one when that is too long ago."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        engines: Sequence[Engine],
        *,
        window_s: float,
        probe_timeout_s: float,
        elapsed_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._engines = engines
        self._window_s = window_s
        self._probe_timeout_s = probe_timeout_s
        self._elapsed_s = elapsed_s
        self._last_token_s: dict[str, float] = {}
        # One probe at a time and engine: a crowd of monitors must not become a load.
        self._locks = {engine.name: asyncio.Lock() for engine in engines}

    def saw_token(self, engine: Engine) -> None:
        """Note that `engine` produced a token now."""
        self._last_token_s[engine.name] = self._elapsed_s()

    def saw_failure(self, engine: Engine) -> None:
        """Note that `engine` failed: what it produced before proves nothing any more."""
        self._last_token_s.pop(engine.name, None)

    async def check(self) -> dict[str, str]:
        """Return each engine's name with "ready" or the reason why it is not."""
        states = await asyncio.gather(*(self._state(engine) for engine in self._engines))
        return {engine.name: state for engine, state in zip(self._engines, states, strict=True)}

    async def _state(self, engine: Engine) -> str:
        async with self._locks[engine.name]:
            last_s = self._last_token_s.get(engine.name)
            if last_s is None or self._elapsed_s() - last_s > self._window_s:
                try:
                    await produce_token(self._client, engine, self._probe_timeout_s)
                except NotReadyError as error:
                    self.saw_failure(engine)
                    return str(error)
                self.saw_token(engine)
            return "ready"


def health_routes(health: EngineHealth) -> APIRouter:
    """Return /health/live and /health/ready."""
    router = APIRouter(prefix="/health")

    @router.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/ready")
    async def ready() -> JSONResponse:
        states = await health.check()
        failed = {name: state for name, state in states.items() if state != "ready"}
        if not failed:
            return JSONResponse({"status": "ready", "engines": states})
        name, reason = next(iter(failed.items()))
        body: dict[str, Any] = {"status": "not ready", "engines": states, **engine_down(name, reason).body}
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE)

    return router
