"""One application in place of another while requests come in: none is dropped, none sees half of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

_POLL_S = 0.05


class Switch:
    """An ASGI application that hands each request to the one in force when it came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        self._open[id(app)] += 1
        try:
            await app(scope, receive, send)
        finally:
            self._open[id(app)] -= 1

    def switch(self, app: ASGIApp) -> ASGIApp:
        """Put `app` in force for the requests to come; returns the one before it, which finishes what it has."""
        before, self._app = self._app, app
        return before

    async def drained(self, app: ASGIApp, timeout_s: float) -> bool:
        """Wait until `app` has no request any more; False where it still has one after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._open[id(app)]:
                    await asyncio.sleep(_POLL_S)
        return not self._open.pop(id(app), 0)
