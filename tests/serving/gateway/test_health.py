from __future__ import annotations

import asyncio

from serving.engines.client import engine_client
from serving.engines.engine import Engine
from serving.gateway.health import EngineHealth
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine


def test_only_an_idle_engine_is_asked(engine: ScriptedEngine) -> None:
    now_s = 0.0

    async def check() -> None:
        nonlocal now_s
        async with engine_client() as client:
            endpoint = Engine("base", f"{url}/v1", "m", frozenset())
            health = EngineHealth(client, [endpoint], window_s=30, probe_timeout_s=5, elapsed_s=lambda: now_s)
            health.saw_token(endpoint)
            now_s = 29.0
            assert await health.check() == {"base": "ready"}
            assert engine.requests == []
            now_s = 31.0
            await asyncio.gather(*(health.check() for _ in range(5)))
            assert len(engine.requests) == 1
            health.saw_failure(endpoint)
            await health.check()
            assert len(engine.requests) == 2

    with live_server(lambda _: engine.app) as url:
        asyncio.run(check())
