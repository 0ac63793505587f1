"""Does little in one turn of the event loop, so that what is urgent gets in between.

Everything that is ready runs before the loop looks at its sockets again. If a hundred requests come at once and all
begin in one turn, the engine hears of the first when the last has been read, and every stream that runs stands still
for as long. And an engine that works in steps sends the next token of all its streams at once: with 256 of them a new
question would wait for 256 tokens on its way in, and its own first token for as many on its way out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """First come, first served, a few a turn; for one event loop. Nothing waits where little is to do."""

    def __init__(self, at_once: int = 4) -> None:
        """`at_once` are done in one turn."""
        self._at_once = at_once
        self._num_begun = 0
        self._is_counting = False
        self._waiting: deque[Callable[[], bool]] = deque()

    def do(self, work: Callable[[], bool]) -> None:
        """Do `work` at once, or in one of the next turns of the loop; it tells whether there was anything to do."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._num_begun < self._at_once and not self._waiting:
            self._num_begun += work()
        else:
            self._waiting.append(work)

    async def mine(self) -> None:
        """Return when this request may begin: at once, or in one of the next turns of the loop."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def begin() -> bool:
            if turn.done():  # cancelled: its client has gone
                return False
            turn.set_result(None)
            return True

        self.do(begin)
        # One that has its turn at once goes on without giving way.
        if not turn.done():
            await turn

    def _next_turn(self) -> None:
        self._num_begun = 0
        while self._waiting and self._num_begun < self._at_once:
            self._num_begun += self._waiting.popleft()()
        self._is_counting = self._num_begun > 0
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._next_turn)
