"""One load whose requests go to the same engine by different ways, which of them decided by lot for each.

Two runs of a load meet an engine in different states, and where many requests are under way these differ by more than
a process between client and engine can cost. Here all ways meet the same states: what first tokens of one way come
later by is what that way adds, whatever the engine does (a randomized trial, with requests as its units).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.gpu.relay import mark_of
from benchmarks.gpu.services import relay_notes
from benchmarks.gpu.way import Way
from benchmarks.load.connection import ConnectionPool, Done, parse_address
from benchmarks.load.exchange import Exchange
from benchmarks.load.figures import figures_of, samples_of
from benchmarks.load.precise_loop import precise_loop
from benchmarks.load.request import RequestSettings, chat_requests
from benchmarks.load.runner import Level, LoadPlan, request_record, send_level


class _ByLot:
    """Sends each exchange over the connections of its way."""

    def __init__(self, pools: Mapping[str, ConnectionPool], way_of: Mapping[bytes, str]) -> None:
        self._pools = pools
        self._way_of = way_of

    def send(self, exchange: Exchange, done: Done) -> None:
        self._pools[self._way_of[exchange.request]].send(exchange, done)

    async def open(self, num: int) -> None:
        for pool in self._pools.values():
            await pool.open(num)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def run_mixed(
    ways: Mapping[str, Way],
    level: Level,
    prompts: Sequence[str],
    settings: RequestSettings,
    *,
    seed: int,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """Send one load by all ways at once; returns run_load's `figures` of all and `requests`, each with its `way`.

    Each prompt is used once; a request past a relay has `engine_ms`. `settings.model` is each way's own in its turn.

    Raises:
        ValueError: there are fewer prompts than requests.
    """
    names = list(ways)
    num = len(names) + level.num_requests
    if num > len(prompts):
        raise ValueError(f"{num} requests need as many prompts; there are {len(prompts)}")
    lot = random.Random(seed)
    questions = lot.sample(range(len(prompts)), num)
    # One of each way to warm up, then by lot, as often each.
    drawn = [names[place % len(names)] for place in range(level.num_requests)]
    lot.shuffle(drawn)
    drawn = [*names, *drawn]
    by_way = {
        name: chat_requests(
            [prompts[question] for question in questions],
            parse_address(way.url),
            replace(settings, model=way.model),
        )
        for name, way in ways.items()
    }
    requests = [by_way[name][place] for place, name in enumerate(drawn)]
    relays = {way.relay for way in ways.values() if way.relay is not None}
    for url in relays:
        relay_notes(url)
    plan = LoadPlan(url="", settings=settings, levels=(level,), timeout_s=timeout_s, seed=seed)
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        exchanges = runner.run(_sent(plan, level, ways, dict(zip(requests, drawn, strict=True)), requests))
    engine_ms = {
        note["mark"]: 1000 * (note["first_s"] - note["asked_s"])
        for url in relays
        for note in relay_notes(url)
    }
    samples = samples_of(exchanges, None)
    told = []
    for name, question, sample in zip(drawn[len(names) :], questions[len(names) :], samples, strict=True):
        record = {"way": name, "question": question, **request_record(sample)}
        mark = mark_of(prompts[question])
        if ways[name].relay is not None and mark in engine_ms:
            record["engine_ms"] = round(engine_ms[mark], 3)
        told.append(record)
    return {"figures": figures_of(samples, {}), "requests": told}


async def _sent(
    plan: LoadPlan,
    level: Level,
    ways: Mapping[str, Way],
    way_of: Mapping[bytes, str],
    requests: Sequence[bytes],
) -> list[Exchange]:
    pools = {name: ConnectionPool(parse_address(way.url), plan.timeout_s) for name, way in ways.items()}
    sender = _ByLot(pools, way_of)
    try:
        return await send_level(plan, level, sender, requests)
    finally:
        sender.close()
