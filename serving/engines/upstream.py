"""One engine as it is while the service runs: which of its servers to ask next, and whether there is one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from serving.engines.breaker import Breaker
from serving.engines.engine import Engine


class EngineLife(Protocol):
    """An engine that is started again when it ends."""

    @property
    def num_restarts(self) -> int:
        """How often it was started again."""

    async def wait_up(self, timeout_s: float, *, failed_at: int | None = None) -> bool:
        """Wait until the engine takes requests; False where it does not in time.

        `failed_at` is `num_restarts` of when a request failed: the engine may have ended without anyone having
        noticed yet.
        """

    def report_failure(self) -> None:
        """Tell that a request failed in a way that an engine which works does not show."""


class Replica:
    """One server of an engine."""

    def __init__(self, url: str, breaker: Breaker | None) -> None:
        self.url = url
        self.num_asked = 0
        self._breaker = breaker

    @property
    def closed_for_s(self) -> float:
        """Seconds for which it is left alone."""
        return self._breaker.closed_for_s if self._breaker else 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the request that the block makes."""
        self.num_asked += 1
        if self._breaker:
            self._breaker.begin()
        try:
            yield
        finally:
            self.num_asked -= 1
            if self._breaker:
                self._breaker.end()

    def answered(self) -> None:
        """Note that it works."""
        if self._breaker:
            self._breaker.succeeded()

    def failed(self) -> None:
        """Note that it could not be reached, died or said nothing."""
        if self._breaker:
            self._breaker.failed()


class Upstream:
    """An engine's servers."""

    def __init__(
        self, engine: Engine, elapsed_s: Callable[[], float], life: EngineLife | None = None
    ) -> None:
        """`life` of an engine that this service runs: whether it is up is known, and needs no breaker."""
        self.engine = engine
        self.life = life
        self._replicas = [Replica(url, None if life else Breaker(elapsed_s)) for url in engine.urls]
        self._next = 0

    @property
    def num_replicas(self) -> int:
        """How many servers it has."""
        return len(self._replicas)

    @property
    def closed_for_s(self) -> float:
        """Seconds until one of the servers may be asked."""
        return min(replica.closed_for_s for replica in self._replicas)

    def choose(self, tried: Collection[Replica] = ()) -> Replica | None:
        """Return the server with the fewest requests, one not in `tried` if possible; None if none may be asked."""
        order = self._replicas[self._next :] + self._replicas[: self._next]
        self._next = (self._next + 1) % len(self._replicas)
        usable = [replica for replica in order if replica.closed_for_s == 0]
        return min(usable, key=lambda replica: (replica in tried, replica.num_asked), default=None)
