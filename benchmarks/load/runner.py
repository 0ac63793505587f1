"""Runs the levels of a load test one after the other and puts their figures together."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from benchmarks.load.arrivals import Arrivals, arrival_times
from benchmarks.load.connection import ConnectionPool, parse_address
from benchmarks.load.exchange import Exchange
from benchmarks.load.figures import Sample, figures_of, samples_of
from benchmarks.load.generator import Sender, closed_loop, open_loop
from benchmarks.load.precise_loop import precise_loop
from benchmarks.load.prompts import Prompt, Trace
from benchmarks.load.request import RequestSettings, chat_requests
from benchmarks.load.stream import read_answer
from benchmarks.load.tokens import TokenCounter
from benchmarks.machine import describe_machine
from data.errors import GroundTuneError

KIND = "groundtune bench load"
_READY_CONNECTIONS = 16
_PACKAGES = ("numpy", "httptools")


@dataclass(frozen=True)
class Level:
    """One load: `concurrency` requests under way (closed loop), `rate` a second or a `trace` (open loop).

    `think_s` is the mean pause between an answer's end and the next request of a closed loop, evenly spread between
    0 and twice that. Without one, requests come right after a step of an engine that works in steps.
    """

    num_requests: int
    concurrency: int | None = None
    think_s: float = 0.0
    rate: float | None = None
    trace: Trace | None = None

    @property
    def label(self) -> str:
        """How tables and charts call it."""
        if self.trace is not None:
            return "trace"
        return f"{self.concurrency} at once" if self.rate is None else f"{self.rate:g}/s"

    @property
    def is_open(self) -> bool:
        """Whether requests come whether or not earlier ones were answered."""
        return self.concurrency is None


@dataclass(frozen=True)
class LoadPlan:
    """What is to be sent.

    Attributes:
        url: The API's base, as in http://127.0.0.1:8000/v1.
        settings: What every request asks for.
        levels: One after the other.
        arrivals: Of open levels.
        burstiness: Of gamma arrivals.
        num_warmup: Requests in front of each level that no figure counts.
        limits: For goodput: milliseconds by ttft_ms, tpot_ms, e2e_ms.
        timeout_s: Longest that one request may take.
        seed: Of the questions' order and the arrivals.
    """

    url: str
    settings: RequestSettings
    levels: tuple[Level, ...]
    arrivals: Arrivals = "poisson"
    burstiness: float = 0.5
    num_warmup: int = 4
    limits: Mapping[str, float] = field(default_factory=dict)
    timeout_s: float = 300.0
    seed: int = 0


class Connections(Sender, Protocol):
    """What sends a level's requests (benchmarks.load.connection.ConnectionPool)."""

    async def open(self, num: int) -> None:
        """Have `num` connections ready."""


def run_load(plan: LoadPlan, questions: Sequence[Prompt], counter: TokenCounter | None) -> dict[str, Any]:
    """Run every level; returns the report, a JSON-like value with every request's times.

    Raises:
        GroundTuneError: the server cannot be reached, or does not answer the first question.
    """
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(_run(plan, questions, counter))


async def _run(plan: LoadPlan, questions: Sequence[Prompt], counter: TokenCounter | None) -> dict[str, Any]:
    settings = await _accepted(plan, questions[0])
    order = list(range(len(questions)))
    random.Random(plan.seed).shuffle(order)
    address = parse_address(plan.url)
    levels = []
    asked = 0
    for level in plan.levels:
        num = plan.num_warmup + level.num_requests
        # Each level goes on in the list, so that none finds its prompts in a cache that the one before has filled.
        if level.trace is None:
            places = [order[(asked + place) % len(order)] for place in range(num)]
            chosen = [questions[place] for place in places]
        else:
            # As they came.
            places = [*order[: plan.num_warmup], *range(min(level.num_requests, len(level.trace.prompts)))]
            chosen = [
                *(questions[place] for place in places[: plan.num_warmup]),
                *level.trace.prompts[: level.num_requests],
            ]
            num = len(chosen)
        asked += num
        requests = chat_requests(chosen, address, settings)
        pool = ConnectionPool(address, plan.timeout_s)
        try:
            exchanges = await send_level(plan, level, pool, requests)
        finally:
            pool.close()
        samples = samples_of(exchanges, counter)
        figures = figures_of(samples, plan.limits)
        levels.append(
            {
                "mode": "open" if level.is_open else "closed",
                "concurrency": level.concurrency,
                "think_ms": 1000 * level.think_s,
                "rate": level.rate,
                "label": level.label,
                "figures": figures,
                # `question`: its place among the questions, or in the trace.
                "requests": [
                    {"question": place, **request_record(sample)}
                    for place, sample in zip(places[-len(samples) :], samples, strict=True)
                ],
            }
        )
        _tell(level, figures, samples)
    return {
        "kind": KIND,
        "url": plan.url,
        "model": settings.model,
        "settings": {
            "arrivals": plan.arrivals,
            "burstiness": plan.burstiness,
            "num_warmup": plan.num_warmup,
            "limits": dict(plan.limits),
            "max_tokens": settings.max_tokens,
            "length_spread": settings.length_spread,
            "extra": dict(settings.extra),
            "num_questions": len(questions),
            "seed": plan.seed,
        },
        "machine": describe_machine(_PACKAGES),
        "levels": levels,
    }


async def send_level(
    plan: LoadPlan, level: Level, pool: Connections, requests: Sequence[bytes]
) -> list[Exchange]:
    """Send a level's requests, those to warm up first; returns the exchanges of the others, as they were sent."""
    num_warmup = len(requests) - level.num_requests
    warmup, counted = requests[:num_warmup], requests[num_warmup:]
    await closed_loop(pool, warmup, level.concurrency or min(4, len(warmup) or 1))
    if level.concurrency is not None:
        random_ = random.Random(plan.seed)
        pauses_s = (2 * level.think_s * random_.random() for _ in counted)
        return await closed_loop(pool, counted, level.concurrency, pauses_s)
    await pool.open(_READY_CONNECTIONS)
    if level.trace is not None:
        return await open_loop(pool, counted, level.trace.due_s[: level.num_requests])
    assert level.rate is not None
    due_s = arrival_times(plan.arrivals, level.rate, len(counted), seed=plan.seed, burstiness=plan.burstiness)
    return await open_loop(pool, counted, due_s.tolist())


async def _accepted(plan: LoadPlan, question: Prompt) -> RequestSettings:
    """Return the settings that the server takes: not all know `stream_options`."""
    settings = plan.settings
    address = parse_address(plan.url)
    while True:
        pool = ConnectionPool(address, plan.timeout_s)
        (exchange,) = await closed_loop(pool, chat_requests([question], address, settings), 1)
        pool.close()
        answer = read_answer(exchange)
        if not answer.error:
            return settings
        if settings.with_usage and exchange.status in (400, 422):
            settings = replace(settings, with_usage=False)
            continue
        told = f": {answer.detail}" if answer.detail else ""
        raise GroundTuneError(
            f"{plan.url}: the first question was not answered ({answer.error}{told}); check the URL and --model"
        )


def request_record(sample: Sample) -> dict[str, Any]:
    """Return a request's times as a report has them."""
    record = asdict(sample)
    del record["itl_ms"]
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in record.items()
        if value not in (None, "", {})
    }


def _tell(level: Level, figures: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    failed = f", {figures['num_failed']} failed" if figures["num_failed"] else ""
    print(
        f"{level.label}: {figures['num_requests']} requests in {figures['duration_s']:.1f} s{failed}",
        file=sys.stderr,
    )
    for error, num in figures["errors"].items():
        detail = next(sample.detail for sample in samples if sample.error == error)
        print(f"  {num} x {error}{f': {detail}' if detail else ''}", file=sys.stderr)
    if "pieces" in figures["tokens_counted_by"]:
        print(
            "  note: the server gives no usage; each piece of the stream counts as a token. Pass --tokenizer.",
            file=sys.stderr,
        )
    late = figures["lateness_ms"]
    if level.is_open and late and late["p99"] > 5:
        print(
            f"  note: this machine was busy: requests left up to {late['p99']:.1f} ms late (p99)",
            file=sys.stderr,
        )
