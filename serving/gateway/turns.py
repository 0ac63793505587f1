"""Lets few new requests begin in one turn of the event loop, the first that came first.

Everything that is ready runs before the loop looks at its sockets again. If a hundred requests come at once and all
begin in one turn, the engine hears of the first when the last has been read, and every stream that runs stands still
for as long. With few a turn the engine is busy with the first while the others are read, and streams go on between.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """For one event loop. Nothing waits where few requests come."""

    def __init__(self, at_once: int = 4) -> None:
        """`at_once` requests begin in one turn."""
        self._at_once = at_once
        self._num_begun = 0
        self._is_counting = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def mine(self) -> None:
        """Return when this request may begin: at once, or in one of the next turns of the loop."""
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._next_turn)
        if self._num_begun < self._at_once and not self._waiting:
            self._num_begun += 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_turn(self) -> None:
        self._num_begun = 0
        while self._waiting and self._num_begun < self._at_once:
            turn = self._waiting.popleft()
            # One whose client has gone was cancelled.
            if not turn.done():
                turn.set_result(None)
                self._num_begun += 1
        self._is_counting = self._num_begun > 0
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._next_turn)
