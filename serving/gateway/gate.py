"""How many requests an engine is asked at once, and how many may wait for their turn: first come, first served."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.gateway.errors import too_many

_MOST_WAIT_S = 60
# Weight of the newest request in the mean duration.
_NEWEST = 0.1


class Gate:
    """The places of one engine."""

    def __init__(
        self,
        name: str,
        *,
        max_running: int,
        max_waiting: int,
        timeout_s: float,
        elapsed_s: Callable[[], float],
    ) -> None:
        """`timeout_s` is the longest wait for a place."""
        self.name = name
        self.num_running = 0
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._elapsed_s = elapsed_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_s = 1.0

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while the block runs, after waiting for one.

        Raises:
            ApiError: 429, too many wait already, or there was no place in time.
        """
        await self._enter()
        started_s = self._elapsed_s()
        try:
            yield
        finally:
            self._mean_s += _NEWEST * (self._elapsed_s() - started_s - self._mean_s)
            self._leave()

    async def _enter(self) -> None:
        if self.num_running < self._max_running:
            self.num_running += 1
            return
        if len(self._waiting) >= self._max_waiting:
            told = f"engine {self.name!r} is busy and {self._max_waiting} requests wait for it; try again"
            raise too_many(told, self._expected_wait_s(), "overloaded")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # The place came at the very moment that the wait ended.
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                told = f"engine {self.name!r} was busy for {self._timeout_s:g} s; try again"
                raise too_many(told, self._expected_wait_s(), "overloaded") from None
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place goes from hand to hand
                return
        self.num_running -= 1

    def _expected_wait_s(self) -> int:
        expected_s = self._mean_s * (len(self._waiting) + 1) / self._max_running
        return max(1, min(_MOST_WAIT_S, math.ceil(expected_s)))
