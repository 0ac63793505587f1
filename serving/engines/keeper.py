"""Keeps an engine's process running: starts it again when it ends or answers nothing, later each time.

An engine is up when it has produced a token, and down from the moment that its process is seen to be gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from data.errors import GroundTuneError
from serving.engines.readiness import NotReadyError, produce_token
from serving.engines.supervisor import EngineProcess

_POLL_S = 0.1
# How long after a failed request a death may still go unnoticed: the launcher and this module both poll.
_NOTICE_S = 1.0


@dataclass(frozen=True)
class RestartPolicy:
    """When to start an engine again.

    Attributes:
        first_pause_s: Pause before the first start; twice as long before each further one.
        longest_pause_s: Where doubling ends.
        calm_s: An engine that was up for so long begins with the first pause again.
        num_probes: After a report, so many probes without a token, and the engine is taken for dead.
        probe_timeout_s: How long each may take; an engine with a long queue is slow, not dead.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    calm_s: float = 60.0
    num_probes: int = 3
    probe_timeout_s: float = 30.0


class Keeper:
    """Watches one process that is up already."""

    def __init__(
        self,
        process: EngineProcess,
        client: httpx.AsyncClient,
        *,
        start_timeout_s: float,
        policy: RestartPolicy,
        tell: Callable[[str], None],
    ) -> None:
        """`tell` gets a line when the engine goes down and when it is up again."""
        self.process = process
        self.num_restarts = 0
        self._client = client
        self._start_timeout_s = start_timeout_s
        self._policy = policy
        self._tell = tell
        self._is_up = True
        self._is_suspect = False
        self._changed = asyncio.Event()

    async def wait_up(self, timeout_s: float, *, failed_at: int | None = None) -> bool:
        """Wait until the engine takes requests; False where it does not in time. See `EngineLife`."""
        deadline_s = time.monotonic() + timeout_s
        believed_s = time.monotonic() + _NOTICE_S
        while True:
            now_s = time.monotonic()
            is_news = failed_at is None or self.num_restarts > failed_at or now_s >= believed_s
            if self._is_up and is_news:
                return True
            limit_s = deadline_s - now_s if not self._is_up else min(believed_s, deadline_s) - now_s
            if now_s >= deadline_s:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(limit_s, 0.001)):
                    await self._changed.wait()

    def report_failure(self) -> None:
        """Have the engine looked at: a process that runs may be dead all the same."""
        self._is_suspect = True

    async def keep(self) -> None:
        """Watch until cancelled; leaves the process as it is then."""
        pause_s = self._policy.first_pause_s
        while True:
            up_since_s = time.monotonic()
            reason = await self._until_down()
            self._set(is_up=False)
            self._tell(f"engine {self.process.engine.name!r} {reason}; see {self.process.log}")
            if time.monotonic() - up_since_s >= self._policy.calm_s:
                pause_s = self._policy.first_pause_s
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._policy.longest_pause_s)
                if await self._start_again():
                    break
            self._set(is_up=True)
            self._tell(f"engine {self.process.engine.name!r} is up again")

    async def _start_again(self) -> bool:
        await asyncio.to_thread(self.process.stop)
        self.process.start()
        self.num_restarts += 1
        try:
            await self.process.wait_ready(self._client, self._start_timeout_s)
        except GroundTuneError as error:
            self._tell(str(error))
            return False
        return True

    async def _until_down(self) -> str:
        """Return why the engine is down, once it is."""
        while True:
            if (status := self.process.exit_status) is not None:
                return f"ended with status {status}"
            if self._is_suspect and (reason := await self._looks_dead()):
                return reason
            await asyncio.sleep(_POLL_S)

    async def _looks_dead(self) -> str:
        """Return why the engine must be taken for dead, "" where it is not or its process has ended."""
        self._is_suspect = False
        reason = ""
        for _ in range(self._policy.num_probes):
            # A process that was killed is seen to be gone before it is worth asking.
            await asyncio.sleep(_NOTICE_S / 2)
            if self.process.exit_status is not None:
                return ""
            try:
                await produce_token(self._client, self.process.engine, self._policy.probe_timeout_s)
            except NotReadyError as error:
                reason = f"runs but produces no token ({error})"
            else:
                return ""
        return reason

    def _set(self, *, is_up: bool) -> None:
        self._is_up = is_up
        self._is_suspect = False
        self._changed.set()
        self._changed = asyncio.Event()


@contextlib.asynccontextmanager
async def keeping(
    processes: Sequence[EngineProcess],
    client: httpx.AsyncClient,
    start_timeout_s: float,
    policy: RestartPolicy | None = None,
) -> AsyncIterator[Mapping[str, Keeper]]:
    """Keep processes that are up running while the block runs; yields their keepers by the engine's name."""

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    keepers = {
        process.engine.name: Keeper(
            process, client, start_timeout_s=start_timeout_s, policy=policy or RestartPolicy(), tell=tell
        )
        for process in processes
    }
    tasks = [asyncio.ensure_future(keeper.keep()) for keeper in keepers.values()]
    try:
        yield keepers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
