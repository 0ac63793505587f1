"""Asks an engine, and asks once more where it failed before it had said anything."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from math import ceil
from typing import Any

from serving.engines.upstream import Replica, Upstream
from serving.gateway.errors import ApiError, engine_down
from serving.gateway.parts import Gateway
from serving.gateway.record import RequestRecord
from serving.gateway.relay import Pieces, ask_engine

_NOT_WORKING = ("engine_unavailable", "engine_timeout")
# A silent engine has used the request's time already; every other error would come again.
_WORTH_ANOTHER = ("engine_unavailable", "engine_busy")


async def answered(
    gateway: Gateway, upstream: Upstream, path: str, body: Mapping[str, Any], record: RequestRecord
) -> Pieces:
    """Yield the pieces of the engine's answer.

    Until the first piece, a failure is followed by one more attempt: at another server of the engine, or when
    the engine is up again. After it, what was said cannot be taken back, and the error goes to the client.

    Raises:
        ApiError: as `ask_engine`; 503 where no server can be asked.
    """
    tried: list[Replica] = []
    failed_at: int | None = None
    while True:
        replica = await _ready_replica(gateway, upstream, tried, failed_at)
        tried.append(replica)
        restarts = upstream.life.num_restarts if upstream.life else None
        has_begun = False
        pieces = ask_engine(
            gateway.client, upstream.engine, replica.url, path, body, gateway.settings.engine_timeout_s
        )
        try:
            with replica.asking():
                async with aclosing(pieces):
                    async for piece in pieces:
                        if not has_begun:
                            has_begun = True
                            replica.answered()
                        yield piece
            return
        except ApiError as error:
            if error.code in _NOT_WORKING:
                replica.failed()
                gateway.health.saw_failure(upstream.engine)
                if upstream.life is not None:
                    upstream.life.report_failure()
            else:
                replica.answered()
            is_last = len(tried) > max(1, upstream.num_replicas - 1)
            if has_begun or is_last or error.code not in _WORTH_ANOTHER:
                raise
            if error.code == "engine_busy" and upstream.num_replicas == 1:
                raise
        failed_at = restarts
        record.num_retries += 1


async def _ready_replica(
    gateway: Gateway, upstream: Upstream, tried: list[Replica], failed_at: int | None
) -> Replica:
    """Return the server to ask; waits for an engine that is being started again."""
    name = upstream.engine.name
    if upstream.life is not None:
        limit_s = gateway.settings.restart_wait_s
        if not await upstream.life.wait_up(limit_s, failed_at=failed_at):
            raise engine_down(name, "it is being started again; try later", retry_after_s=5)
    replica = upstream.choose(tried)
    if replica is None:
        wait_s = max(1, ceil(upstream.closed_for_s))
        raise engine_down(
            name, f"it failed repeatedly; it is tried again in {wait_s} s", retry_after_s=wait_s
        )
    return replica
