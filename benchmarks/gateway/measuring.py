"""Load on one system, and what its process used for it. Knows nothing of what is being measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.arrivals import arrival_times
from benchmarks.load.connection import Address, ConnectionPool, parse_address
from benchmarks.load.exchange import Exchange
from benchmarks.load.generator import closed_loop, open_loop
from benchmarks.load.precise_loop import precise_loop
from benchmarks.load.request import RequestSettings, chat_requests
from data.errors import GroundTuneError

_SETTINGS = RequestSettings("base", 256, with_usage=False)
_WARM_UP = 100
# About 700 tokens, as a question with the rows to answer it from.
_PROMPT = "能吃盐吗?" + "Antihypertensive treatment is recommended. " * 85
_TIMES = re.compile(rb'"content": ?"([0-9.]+) ([0-9.]+) ?"')
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Throughput:
    """As many as it can: `num` requests, so many at once.

    Attributes:
        busy: Share of a core that the system's process used; near 1, its core was what limited.
        per_core: Requests for each second of its processor time.
    """

    num: int
    concurrency: int
    seconds: float
    per_second: float
    busy: float
    per_core: float


def throughput(url: str, pid: int, *, num: int, concurrency: int, stream: bool) -> Throughput:
    """Ask `num` times with `concurrency` requests under way.

    Raises:
        GroundTuneError: a request was not answered in full.
    """
    address = parse_address(url)
    requests = _requests(address, num, stream)

    async def run() -> tuple[float, float]:
        pool = ConnectionPool(address, 60.0)
        _check(await closed_loop(pool, requests[:_WARM_UP], concurrency), stream)
        used_s, started_s = processor_s(pid), time.monotonic()
        exchanges = await closed_loop(pool, requests, concurrency)
        wall_s, used_s = time.monotonic() - started_s, processor_s(pid) - used_s
        pool.close()
        _check(exchanges, stream)
        return wall_s, used_s

    wall_s, used_s = asyncio.run(run())
    return Throughput(
        num,
        concurrency,
        round(wall_s, 2),
        round(num / wall_s, 1),
        round(used_s / wall_s, 3),
        round(num / used_s, 1) if used_s else 0.0,
    )


def latency_ms(url: str, *, rate: float, seconds: float, stream: bool, seed: int) -> list[float]:
    """Ask at random times, `rate` a second; returns each request's milliseconds from due to the end of its answer.

    Raises:
        GroundTuneError: a request was not answered in full.
    """
    address = parse_address(url)
    due_s = arrival_times("poisson", rate, round(rate * seconds), seed=seed)
    requests = _requests(address, len(due_s), stream)

    async def run() -> list[Exchange]:
        pool = ConnectionPool(address, 60.0)
        await closed_loop(pool, requests[:_WARM_UP], 4)
        await pool.open(16)
        exchanges = await open_loop(pool, requests, due_s.tolist())
        pool.close()
        return exchanges

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        exchanges = runner.run(run())
    _check(exchanges, stream)
    return [1000 * ((exchange.ended_s or 0.0) - exchange.due_s) for exchange in exchanges]


@dataclass(frozen=True)
class Steps:
    """What becomes of events that an engine sends to all its streams at once (benchmarks.gateway.stepping).

    Attributes:
        num_streams: Answers under way.
        first_ms: What a request and its first token were under way together, without the engine's own time, by
            percentile; of requests that came while the others ran.
        next_ms: The same of a later token.
        processor_us: Processor time of the system's process for a token.
    """

    num_streams: int
    first_ms: Mapping[str, float]
    next_ms: Mapping[str, float]
    processor_us: float


def steps(url: str, pid: int, *, num_streams: int, num_waves: int = 4) -> Steps:
    """Keep `num_streams` answers under way until `num_waves` times as many are whole.

    Raises:
        GroundTuneError: a request was not answered in full.
    """
    address = parse_address(url)
    settings = RequestSettings(_SETTINGS.model, 100, with_usage=False, length_spread=0.5)
    requests = chat_requests([_PROMPT] * num_streams * num_waves, address, settings)

    async def run() -> tuple[list[Exchange], float]:
        pool = ConnectionPool(address, 60.0)
        _check(await closed_loop(pool, requests[:num_streams], num_streams), True)
        used_s = processor_s(pid)
        exchanges = await closed_loop(pool, requests, num_streams)
        used_s = processor_s(pid) - used_s
        pool.close()
        _check(exchanges, True)
        return exchanges, used_s

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        exchanges, used_s = runner.run(run())
    under_way = [_under_way_ms(exchange) for exchange in exchanges]
    return Steps(
        num_streams,
        percentiles([first for first, _ in under_way[num_streams:]]),
        percentiles([each for _, later in under_way for each in later]),
        round(1e6 * used_s / sum(1 + len(later) for _, later in under_way), 1),
    )


def _under_way_ms(exchange: Exchange) -> tuple[float, list[float]]:
    """Return how long the request and its first token, and each later token, were under way."""
    found = [
        (1000 * (at_s - float(ended_s)), 1000 * (float(came_s) - (exchange.sent_s or 0.0)))
        for at_s, part in exchange.chunks
        for ended_s, came_s in _TIMES.findall(part)
    ]
    return sum(found[0]), [back for back, _ in found[1:]]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p90 and p99."""
    return {f"p{part}": round(float(np.percentile(values, part)), 3) for part in (50, 90, 99)}


def as_json(found: Throughput) -> dict[str, Any]:
    """Return the figures for a result file."""
    return asdict(found)


def processor_s(pid: int) -> float:
    """Return the processor time of a process and those it started, in seconds."""
    used = 0
    family = [pid]
    for member in family:
        stat = Path(f"/proc/{member}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        used += int(stat[11]) + int(stat[12])
        family += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
    return used / _TICKS_A_SECOND


def _requests(address: Address, num: int, stream: bool) -> list[bytes]:
    settings = RequestSettings(
        _SETTINGS.model, _SETTINGS.max_tokens, with_usage=False, extra={"stream": stream}
    )
    return chat_requests(["能吃盐吗?"] * num, address, settings)


def _check(exchanges: Sequence[Exchange], stream: bool) -> None:
    for exchange in exchanges:
        body = b"".join(part for _, part in exchange.chunks)
        if not exchange.error and exchange.status == 200:
            if stream and body.rstrip().endswith(b"data: [DONE]"):
                continue
            if not stream and json.loads(body)["choices"][0]["message"]["content"]:
                continue
        raise GroundTuneError(f"not answered: {exchange.status} {exchange.error} {body[:300]!r}")
