"""An event loop whose timers are exact to some microseconds, for a core of the machine's work.

asyncio asks epoll to wait, and epoll counts in whole milliseconds, rounded up: a request that is due now would
leave up to a millisecond late. select counts in microseconds and can wait for the epoll itself. Waking up takes a
tenth of a millisecond more and leaves the processor's caches cold, so the last bit before a timer is spent polling.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from typing import Any

_POLLING_S = 0.001
_FD_SETSIZE = 1024


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop; where there is no epoll (macOS), the usual one, whose timers are finer there."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_PreciseSelector())


if hasattr(selectors, "EpollSelector"):

    class _PreciseSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
            if timeout is not None and timeout > 0 and self.fileno() < _FD_SETSIZE:
                if timeout > _POLLING_S:
                    select.select([self.fileno()], [], [], timeout - _POLLING_S)
                timeout = 0
            return super().select(timeout)
