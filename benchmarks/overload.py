"""A gateway under ten times the load that its engine can take: what still gets through, and how soon the rest is told.

    python -m benchmarks.overload [--seconds 60]

The engine is scripted (tests.serving.engine_process): pieces at fixed times, so that its capacity is known: as many
answers a second as the gateway has places, divided by the time of one. First a closed loop with exactly as many
clients as places: the peak. Then an open loop of Poisson arrivals at ten times that rate. Counted are whole streams
(`[DONE]`), 429 and 503 with their time, anything else, and the gateway's resident memory every half second. Then 500
clients go away in the middle of their streams. Result: benchmarks/results/overload.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.load.arrivals import arrival_times
from benchmarks.load.connection import ConnectionPool, parse_address
from benchmarks.load.exchange import Exchange
from benchmarks.load.generator import closed_loop, open_loop
from benchmarks.load.precise_loop import precise_loop
from benchmarks.load.request import RequestSettings, chat_requests
from benchmarks.local_services import engine_process, gateway_process
from benchmarks.machine import describe_machine
from data.artefacts import write_json

RESULT = Path(__file__).parent / "results" / "overload.json"
_PLACES = 16
_WAITING = 32
_PIECES, _DELAY_S = 10, 0.04
_TIMES = 10
_GONE = 500
# The scripted engine takes no temperature.
_SETTINGS = RequestSettings("base", 64, with_usage=False, extra={"temperature": None})


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    pieces = ("--texts", str(_PIECES), "--delay-s", str(_DELAY_S))
    places = ("--running", str(_PLACES), "--waiting", str(_WAITING))
    with engine_process(*pieces) as engine, gateway_process(engine, *places) as url:
        overload = asyncio.Runner(loop_factory=precise_loop).run(_overload(url, options.seconds))
    endless = ("--texts", "2000", "--delay-s", "0.02")
    with engine_process(*endless) as engine, gateway_process(engine, "--running", str(_GONE)) as url:
        gone = asyncio.run(_go_away(url, engine))
    result = {
        "benchmark": "overload",
        **describe_machine(("uvicorn", "uvloop", "httptools", "fastapi")),
        "command": f"python -m benchmarks.overload --seconds {options.seconds:g}",
        "settings": {"places": _PLACES, "waiting": _WAITING, "pieces": _PIECES, "delay_s": _DELAY_S},
        "overload": overload,
        "clients_that_go_away": gone,
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


async def _overload(url: str, seconds: float) -> dict[str, Any]:
    address = parse_address(f"{url}/v1")
    pid = httpx.get(f"{url}/debug").json()["pid"]
    pool = ConnectionPool(address, 60.0)
    peak_requests = chat_requests(["能吃盐吗?"] * _PLACES * 20, address, _SETTINGS)
    await closed_loop(pool, peak_requests[:_PLACES], _PLACES)
    at_peak = await closed_loop(pool, peak_requests, _PLACES)
    peak = _answered_per_s(at_peak)
    memory_before = _resident_bytes(pid)
    rate = _TIMES * peak
    due_s = arrival_times("poisson", rate, round(rate * seconds), seed=1)
    requests = chat_requests(["能吃盐吗?"] * len(due_s), address, _SETTINGS)
    memory: list[int] = []
    watching = asyncio.ensure_future(_watch(pid, memory))
    await pool.open(_PLACES + _WAITING)
    exchanges = await open_loop(pool, requests, due_s.tolist())
    watching.cancel()
    pool.close()
    refused_ms = [
        1000 * ((item.ended_s or 0) - (item.sent_s or item.due_s))
        for item in exchanges
        if item.status in (429, 503)
    ]
    goodput = _answered_per_s(exchanges)
    lateness_ms = [1000 * ((item.sent_s or item.due_s) - item.due_s) for item in exchanges]
    return {
        "peak_per_s": round(peak, 2),
        "asked_per_s": round(rate, 1),
        "seconds": seconds,
        "goodput_per_s": round(goodput, 2),
        "goodput_of_peak": round(goodput / peak, 3),
        "outcomes": dict(Counter(_outcome(item) for item in exchanges)),
        "refused_ms": _percentiles(refused_ms),
        "generator_late_ms": _percentiles(lateness_ms),
        "memory_mb": {
            "before": round(memory_before / 1e6, 1),
            "half way": round(memory[len(memory) // 2] / 1e6, 1),
            "end": round(memory[-1] / 1e6, 1),
            "most": round(max(memory) / 1e6, 1),
        },
    }


def _outcome(exchange: Exchange) -> str:
    if exchange.error:
        return exchange.error
    if exchange.status != 200:
        return f"HTTP {exchange.status}"
    return "answered" if exchange.chunks[-1][1].rstrip().endswith(b"[DONE]") else "stream ended early"


def _answered_per_s(exchanges: Sequence[Exchange]) -> float:
    ended_s = [item.ended_s or 0.0 for item in exchanges if _outcome(item) == "answered"]
    start_s = min(item.due_s for item in exchanges)
    return len(ended_s) / (max(ended_s) - start_s)


async def _watch(pid: int, memory: list[int]) -> None:
    while True:
        memory.append(_resident_bytes(pid))
        await asyncio.sleep(0.5)


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = {f"p{part}": round(float(np.percentile(values, part)), 2) for part in (50, 99)}
    return {**found, "max": round(max(values), 2)}


async def _go_away(url: str, engine: str) -> dict[str, Any]:
    """Open `_GONE` streams, close them after their first piece, and count what is left of them."""
    body = {"model": "base", "messages": [{"role": "user", "content": "好"}], "stream": True}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def debug() -> dict[str, int]:
            return dict((await client.get(f"{url}/debug")).json())

        async def open_one() -> tuple[httpx.Response, AsyncIterator[bytes]]:
            request = client.build_request("POST", f"{url}/v1/chat/completions", json=body)
            response = await client.send(request, stream=True)
            parts = response.aiter_bytes()
            await anext(parts)
            # With its iterator, whose end would close it.
            return response, parts

        before = await debug()
        streams = await asyncio.gather(*(open_one() for _ in range(_GONE)))
        during = (await client.get(f"{engine}/state")).json()["num_open"]
        left_s = time.monotonic()
        await asyncio.gather(*(response.aclose() for response, _ in streams))
        idle_after_s = None
        while time.monotonic() - left_s < 30:
            if not (await client.get(f"{engine}/state")).json()["num_open"]:
                idle_after_s = round(time.monotonic() - left_s, 2)
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        after = await debug()
    if idle_after_s is None:
        print("the engine was not idle after 30 s", file=sys.stderr)
    return {
        "clients": _GONE,
        "streams_at_the_engine": during,
        "engine_idle_after_s": idle_after_s,
        "tasks": {"before": before["num_tasks"], "after": after["num_tasks"]},
        "open_files": {"before": before["num_files"], "after": after["num_files"]},
    }


if __name__ == "__main__":
    main()
