"""The HTTP client for engines; one a process."""

from __future__ import annotations

import httpx

# Shorter than the five seconds after which engines close an idle connection, so that none is used as it closes.
_KEEPALIVE_S = 2.0


def engine_client() -> httpx.AsyncClient:
    """Return a client that uses no proxy for this machine and opens as many connections as are needed."""
    local: dict[str, httpx.AsyncBaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEEPALIVE_S)
    return httpx.AsyncClient(limits=limits, mounts=local)
