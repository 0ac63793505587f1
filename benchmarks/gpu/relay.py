"""A relay that only copies bytes: what any process between clients and an engine costs.

python -m benchmarks.gpu.relay PORT ENGINE_PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class _End(asyncio.Protocol):
    """One side of a pair; what comes in here goes out there."""

    def __init__(self, other: _End | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.writelines(self.early)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        elif self.other is not None:
            self.other.early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_End):
    def __init__(self, engine_port: int) -> None:
        super().__init__()
        self._engine_port = engine_port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = end = _End(self)
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(loop.create_connection(lambda: end, "127.0.0.1", self._engine_port))


async def _serve(port: int, engine_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Client(engine_port), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
