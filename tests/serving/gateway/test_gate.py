from __future__ import annotations

import asyncio

import pytest

from serving.gateway.errors import ApiError
from serving.gateway.gate import Gate


def _gate(max_running: int, max_waiting: int, timeout_s: float = 5.0) -> Gate:
    return Gate(
        "e", max_running=max_running, max_waiting=max_waiting, timeout_s=timeout_s, elapsed_s=lambda: 0.0
    )


def test_never_more_than_allowed_and_in_order() -> None:
    async def check() -> None:
        gate, most, order = _gate(3, 100), 0, []

        async def work(number: int) -> None:
            nonlocal most
            async with gate.place():
                order.append(number)
                most = max(most, gate.num_running)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(work(number) for number in range(50)))
        assert most == 3
        assert order == list(range(50))
        assert (gate.num_running, gate.num_waiting) == (0, 0)

    asyncio.run(check())


def test_those_that_give_up_lose_no_place() -> None:
    async def check() -> None:
        gate = _gate(1, 100)
        done = 0

        async def work() -> None:
            nonlocal done
            async with gate.place():
                await asyncio.sleep(0.001)
                done += 1

        tasks = [asyncio.ensure_future(work()) for _ in range(40)]
        await asyncio.sleep(0.005)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert done >= 20
        assert (gate.num_running, gate.num_waiting) == (0, 0)
        # A place that comes at the very moment of giving up.
        holder = gate.place()
        await holder.__aenter__()
        waiter = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        await holder.__aexit__(None, None, None)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert (gate.num_running, gate.num_waiting) == (0, 0)

    asyncio.run(check())


def test_full_queue_and_long_wait_are_told_with_a_time() -> None:
    async def check() -> None:
        gate = _gate(1, 1, timeout_s=0.05)
        async with gate.place():
            waiter = asyncio.ensure_future(gate.place().__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(ApiError, match="1 requests wait") as full:
                await gate.place().__aenter__()
            assert full.value.status == 429
            assert full.value.headers is not None
            assert int(full.value.headers["Retry-After"]) >= 1
            with pytest.raises(ApiError, match=r"busy for 0\.05 s"):
                await waiter
        assert (gate.num_running, gate.num_waiting) == (0, 0)

    asyncio.run(check())
