"""The HTTP client for engines; one a process."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

import httpx

from serving.engines.wire import KEEPALIVE_S, Wire

_LOCAL = ("127.0.0.1", "localhost")


class EngineClient(httpx.AsyncClient):
    """A general client, and beside it a lean one for the requests that it can do."""

    def __init__(self) -> None:
        local: dict[str, httpx.AsyncBaseTransport | None] = {f"all://{host}": None for host in _LOCAL}
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE_S
        )
        super().__init__(limits=limits, mounts=local)
        self._wire = Wire()
        self._has_proxies = bool(urllib.request.getproxies())

    def wire_to(self, url: str) -> Wire | None:
        """Return the lean client where it can reach `url`: without TLS and without a proxy."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.username is not None:
            return None
        if self._has_proxies and parts.hostname not in _LOCAL:
            return None
        return self._wire

    async def aclose(self) -> None:
        """Close every connection."""
        self._wire.close()
        await super().aclose()

    async def __aexit__(self, *details: object) -> None:
        """Close every connection."""
        self._wire.close()
        await super().__aexit__(*details)  # type: ignore[arg-type]


def engine_client() -> EngineClient:
    """Return a client that uses no proxy for this machine and opens as many connections as are needed."""
    return EngineClient()
