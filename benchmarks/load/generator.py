"""Open and closed loop: when which exchange is sent. Knows no HTTP beyond the pool and looks into no answer."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from benchmarks.load.connection import Done
from benchmarks.load.exchange import Exchange

_LEAD_S = 0.05


class Sender(Protocol):
    """What sends an exchange (benchmarks.load.connection.ConnectionPool)."""

    def send(self, exchange: Exchange, done: Done) -> None:
        """Send now; call `done` once it is over."""


async def open_loop(sender: Sender, requests: Sequence[bytes], due_s: Sequence[float]) -> list[Exchange]:
    """Send each request at its time, in seconds from now, and wait for all; returns them in the order of times."""
    loop = asyncio.get_running_loop()
    exchanges = [Exchange(request) for request in requests]
    finished = _Countdown(len(exchanges))
    times = [float(time_s) for time_s in due_s]
    with _undisturbed():
        # Counted from when the preparation is over.
        start_s = time.monotonic() + _LEAD_S

        def send_due(number: int) -> None:
            """Send everything that is due, then sleep until the next is."""
            while number < len(exchanges) and start_s + times[number] <= time.monotonic():
                exchanges[number].due_s = start_s + times[number]
                sender.send(exchanges[number], finished.one_more)
                number += 1
            if number < len(exchanges):
                loop.call_at(start_s + times[number], send_due, number)

        send_due(0)
        await finished.wait()
    return exchanges


async def closed_loop(
    sender: Sender, requests: Sequence[bytes], concurrency: int, pauses_s: Iterable[float] = ()
) -> list[Exchange]:
    """Keep `concurrency` requests under way until all were sent and answered; returns them as they were sent.

    Each of `pauses_s` passes between the end of one and the sending of the next in its place (think time); none
    where there are no more.
    """
    loop = asyncio.get_running_loop()
    pauses = iter(pauses_s)
    exchanges = [Exchange(request) for request in requests]
    finished = _Countdown(len(exchanges))
    waiting = iter(exchanges)

    def send_next() -> None:
        exchange = next(waiting, None)
        if exchange is not None:
            exchange.due_s = time.monotonic()
            sender.send(exchange, ended)

    def ended(exchange: Exchange) -> None:
        finished.one_more(exchange)
        pause_s = next(pauses, 0.0)
        if pause_s:
            loop.call_later(pause_s, send_next)
        else:
            send_next()

    with _undisturbed():
        for _ in range(min(concurrency, len(exchanges))):
            send_next()
        await finished.wait()
    return exchanges


class _Countdown:
    def __init__(self, num: int) -> None:
        self._left = num
        self._event = asyncio.Event()
        if not num:
            self._event.set()

    def one_more(self, _: Exchange) -> None:
        self._left -= 1
        if not self._left:
            self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the garbage collector from stopping everything for milliseconds in the middle."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
