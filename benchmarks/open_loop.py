"""Whether `bench load`'s open loop sends when it says: arrivals at a server, and what the client itself adds.

    python -m benchmarks.open_loop [--rate 200] [--seconds 10]

The server (tests.benchmarks.load.scripted_upstream, another process, polling on a core of its own) notes when it has
each request and when it has sent the end of each answer; the system's monotonic clock is the same in both. Gaps
between arrivals are held against the distribution that was asked for (Kolmogorov-Smirnov); what the client adds is
from due to received, and from sent to seen. A ramp's arrivals are uniform by its own clock. Result:
benchmarks/results/open-loop.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import expon, gamma, kstest, uniform

from benchmarks.load.arrivals import Arrivals, Times, arrival_times, ramp_area
from benchmarks.load.connection import ConnectionPool, parse_address
from benchmarks.load.exchange import Exchange
from benchmarks.load.generator import open_loop
from benchmarks.load.precise_loop import precise_loop
from benchmarks.load.request import RequestSettings, chat_requests
from benchmarks.machine import describe_machine
from data.artefacts import write_json
from data.errors import GroundTuneError

RESULT = Path(__file__).parent / "results" / "open-loop.json"
_SEED = 11
_BURSTINESS = 0.5
# Gaps of a gamma below 1 gather at zero, where no server can tell them apart: a quarter of the rate.
_SHARE_OF_RATE: dict[Arrivals, float] = {"poisson": 1.0, "gamma": 0.25, "ramp": 1.0}
_SENT = re.compile(rb": sent ([\d.e-]+)")


def main() -> None:
    """Measure and write the result."""
    from tests.benchmarks.load.scripted_upstream import scripted_upstream

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each kind of arrivals")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    kinds = {}
    with scripted_upstream("--poll") as url:
        _run(url, arrival_times("constant", options.rate, 200).tolist())
        for kind, share in _SHARE_OF_RATE.items():
            rate = share * options.rate
            mean_rate = rate / 2 if kind == "ramp" else rate
            kinds[kind] = measure(url, kind, rate, round(mean_rate * options.seconds))
            print(f"{kind}: {json.dumps(kinds[kind])}", file=sys.stderr, flush=True)
    result = {
        "benchmark": "open loop",
        **describe_machine(("numpy", "scipy", "httptools")),
        "command": f"python -m benchmarks.open_loop --rate {options.rate:g} --seconds {options.seconds:g}",
        "settings": {"seed": _SEED, "burstiness": _BURSTINESS},
        "arrivals": kinds,
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


def measure(url: str, kind: Arrivals, rate: float, num: int) -> dict[str, Any]:
    """Send `num` requests and compare what came with what was asked.

    Raises:
        GroundTuneError: a request was not answered.
    """
    due_s = arrival_times(kind, rate, num, seed=_SEED, burstiness=_BURSTINESS)
    exchanges = _run(url, due_s.tolist())
    errors = [exchange.error for exchange in exchanges if exchange.error]
    if errors:
        raise GroundTuneError(f"{kind}: {len(errors)} of {num} requests failed, the first: {errors[0]}")
    received_s = np.array([float(exchange.headers["x-received"]) for exchange in exchanges])
    came_s = np.sort(received_s - (exchanges[0].due_s - due_s[0]))
    added_ms = [_added_ms(exchange) for exchange in exchanges]
    late_ms = [1000 * ((exchange.sent_s or 0.0) - exchange.due_s) for exchange in exchanges]
    return {
        "rate": rate,
        "num_requests": num,
        "rate_at_the_server": round((num - 1) / float(came_s[-1] - came_s[0]), 2),
        "ks_p": round(_ks_p(kind, rate, num, came_s), 4),
        "added_ms": _parts(added_ms),
        "sent_after_due_ms": _parts(late_ms),
    }


def _ks_p(kind: Arrivals, rate: float, num: int, came_s: Times) -> float:
    """Return the p of the hypothesis that arrivals at `came_s` are of that kind."""
    if kind == "ramp":
        area = ramp_area(came_s, rate, num)
        return float(kstest(area[:-1] / area[-1], uniform().cdf).pvalue)
    wanted = gamma(_BURSTINESS, scale=1 / (_BURSTINESS * rate)) if kind == "gamma" else expon(scale=1 / rate)
    return float(kstest(np.diff(came_s, prepend=0.0), wanted.cdf).pvalue)


def _added_ms(exchange: Exchange) -> float:
    found = _SENT.search(b"".join(part for _, part in exchange.chunks))
    if found is None or exchange.ended_s is None:
        raise GroundTuneError("the server did not say when it had sent the end of an answer")
    to_server_s = float(exchange.headers["x-received"]) - exchange.due_s
    return 1000 * (to_server_s + exchange.ended_s - float(found[1]))


def _parts(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, (50, 90, 99))
    return {f"p{part}": round(float(value), 3) for part, value in zip((50, 90, 99), found, strict=True)} | {
        "max": round(float(max(values)), 3)
    }


def _run(url: str, due_s: Sequence[float]) -> list[Exchange]:
    address = parse_address(url)
    requests = chat_requests(["hello"] * len(due_s), address, RequestSettings("m", 16))

    async def send() -> list[Exchange]:
        pool = ConnectionPool(address, 5.0)
        await pool.open(16)
        exchanges = await open_loop(pool, requests, due_s)
        pool.close()
        return exchanges

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(send())


if __name__ == "__main__":
    main()
