"""How many requests begin in one turn of the event loop, and in which order."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise

import pytest

from serving.turns import Turns


async def _begun_by_turn(num_requests: int, at_once: int, cancelled: tuple[int, ...] = ()) -> list[list[int]]:
    """Let requests come in one turn; returns which began in each of the loop's turns after it."""
    turns, begun = Turns(at_once), list[int]()

    async def request(number: int) -> None:
        await turns.mine()
        begun.append(number)

    tasks = [asyncio.create_task(request(number)) for number in range(num_requests)]
    by_turn: list[list[int]] = []
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        by_turn.append(list(begun))
        begun.clear()
        for number in cancelled if len(by_turn) == 1 else ():
            tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [turn for turn in by_turn if turn]


def test_a_lone_request_does_not_wait() -> None:
    async def first_step() -> None:
        # A coroutine that waits for nothing ends in its first step.
        with pytest.raises(StopIteration):
            Turns().mine().send(None)

    asyncio.run(first_step())


def test_of_many_few_begin_in_a_turn_and_the_first_come_begin_first() -> None:
    by_turn = asyncio.run(_begun_by_turn(11, at_once=4))
    assert [number for turn in by_turn for number in turn] == list(range(11))
    assert max(len(turn) for turn in by_turn) == 4


def test_later_requests_do_not_overtake_those_that_wait() -> None:
    async def both() -> list[str]:
        turns, begun = Turns(1), list[str]()

        async def request(name: str) -> None:
            await turns.mine()
            begun.append(name)

        early = [asyncio.create_task(request(f"early {number}")) for number in range(3)]
        await asyncio.sleep(0)
        late = asyncio.create_task(request("late"))
        await asyncio.gather(*early, late)
        return begun

    assert asyncio.run(both()) == ["early 0", "early 1", "early 2", "late"]


def test_work_without_anything_to_do_takes_no_place() -> None:
    async def done() -> list[int]:
        turns, begun = Turns(2), list[int]()

        def work(number: int) -> bool:
            if number % 2:
                return False
            begun.append(number)
            return True

        for number in range(12):
            turns.do(partial(work, number))
        counts = [len(begun)]
        while len(begun) < 6:
            await asyncio.sleep(0)
            counts.append(len(begun))
        return [later - earlier for earlier, later in pairwise(counts)]

    by_turn = asyncio.run(done())
    assert sum(by_turn) + 2 == 6 and max(by_turn) == 2


def test_a_request_that_gave_up_takes_no_place() -> None:
    by_turn = asyncio.run(_begun_by_turn(6, at_once=2, cancelled=(2, 3)))
    assert by_turn == [[0, 1], [4, 5]]


def test_after_a_rest_requests_begin_at_once_again() -> None:
    async def twice() -> None:
        turns = Turns(1)
        await asyncio.gather(*(turns.mine() for _ in range(3)))
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(StopIteration):
            turns.mine().send(None)

    asyncio.run(twice())
