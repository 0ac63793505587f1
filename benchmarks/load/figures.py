"""From answers to figures: times a request, percentiles a level, goodput.

- TTFT: from when a request was due until its first text came. Due, not sent: a server that is slow to take a
  connection is slow (the "coordinated omission" of many load generators).
- TPOT: time per output token after the first, (end of the text - TTFT) / (tokens - 1).
- Inter-token latency: the gap before each piece of text but the first, divided among the tokens that it brought.
- Goodput: answers a second that keep every stated limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.load.exchange import Exchange
from benchmarks.load.stream import Answer, read_answer
from benchmarks.load.tokens import Source, TokenCounter, tokens_of_pieces

PERCENTILES = (50, 90, 99)
LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")


@dataclass(frozen=True)
class Sample:
    """One request's times in milliseconds; None where its answer is not whole, or too short to have one.

    `start_s` counts from the first request of its level. `itl_ms`: (gap per token, tokens) of each piece.
    """

    start_s: float
    lateness_ms: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    itl_ms: tuple[tuple[float, float], ...]
    tokens: float
    prompt_tokens: int | None
    counted_by: Source
    stages_ms: Mapping[str, float]
    error: str
    detail: str


def samples_of(exchanges: Sequence[Exchange], counter: TokenCounter | None) -> list[Sample]:
    """Return each exchange's sample, in their order."""
    if not exchanges:
        return []
    start_s = min(exchange.due_s for exchange in exchanges)
    return [_sample(exchange, read_answer(exchange), start_s, counter) for exchange in exchanges]


def _sample(exchange: Exchange, answer: Answer, start_s: float, counter: TokenCounter | None) -> Sample:
    lateness_ms = None if exchange.sent_s is None else 1000 * (exchange.sent_s - exchange.due_s)
    texts = [text for _, text in answer.pieces]
    counts, source = tokens_of_pieces(texts, answer.completion_tokens, counter)
    num_tokens = sum(counts)
    ttft_ms = tpot_ms = e2e_ms = None
    gaps: list[tuple[float, float]] = []
    if not answer.error:
        assert exchange.ended_s is not None
        times = [time_s for time_s, _ in answer.pieces]
        ttft_ms = 1000 * (times[0] - exchange.due_s)
        e2e_ms = 1000 * (exchange.ended_s - exchange.due_s)
        if num_tokens > 1:
            tpot_ms = 1000 * (times[-1] - times[0]) / (num_tokens - 1)
        gaps = [
            (1000 * (after - before) / max(count, 1.0), count)
            for before, after, count in zip(times, times[1:], counts[1:], strict=False)
            if count > 0
        ]
    return Sample(
        start_s=exchange.due_s - start_s,
        lateness_ms=lateness_ms,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        e2e_ms=e2e_ms,
        itl_ms=tuple(gaps),
        tokens=num_tokens,
        prompt_tokens=answer.prompt_tokens,
        counted_by=source,
        stages_ms=dict(answer.stages_ms),
        error=answer.error,
        detail=answer.detail,
    )


def figures_of(samples: Sequence[Sample], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return a level's figures as a JSON-like value.

    Args:
        samples: Those of one level, warm-up left out.
        limits: Highest milliseconds by name (`LIMITS`) for an answer to count as good.
    """
    whole = [sample for sample in samples if not sample.error]
    ends_s = [sample.start_s + (sample.e2e_ms or 0) / 1000 for sample in whole]
    duration_s = max(ends_s) if ends_s else 0.0
    good = sum(_is_good(sample, limits) for sample in whole)
    prompt_tokens = [sample.prompt_tokens for sample in whole]
    stages = sorted({name for sample in whole for name in sample.stages_ms})
    return {
        "num_requests": len(samples),
        "num_failed": len(samples) - len(whole),
        "errors": dict(Counter(sample.error for sample in samples if sample.error)),
        "duration_s": round(duration_s, 3),
        "requests_per_s": _rate(len(whole), duration_s),
        "output_tokens_per_s": _rate(sum(sample.tokens for sample in whole), duration_s),
        "prompt_tokens_per_s": None
        if None in prompt_tokens
        else _rate(sum(number or 0 for number in prompt_tokens), duration_s),
        "mean_output_tokens": round(float(np.mean([s.tokens for s in whole])), 1) if whole else None,
        "goodput_per_s": _rate(good, duration_s) if limits else None,
        "tokens_counted_by": sorted({sample.counted_by for sample in whole}),
        "ttft_ms": _percentiles([s.ttft_ms for s in whole if s.ttft_ms is not None]),
        "tpot_ms": _percentiles([s.tpot_ms for s in whole if s.tpot_ms is not None]),
        "itl_ms": _weighted_percentiles([pair for sample in whole for pair in sample.itl_ms]),
        "e2e_ms": _percentiles([s.e2e_ms for s in whole if s.e2e_ms is not None]),
        "lateness_ms": _percentiles([s.lateness_ms for s in whole if s.lateness_ms is not None]),
        "stages_ms": {
            name: _percentiles([s.stages_ms[name] for s in whole if name in s.stages_ms]) for name in stages
        },
    }


def _is_good(sample: Sample, limits: Mapping[str, float]) -> bool:
    values: dict[str, float | None] = {
        "ttft_ms": sample.ttft_ms,
        "tpot_ms": sample.tpot_ms,
        "e2e_ms": sample.e2e_ms,
    }
    return all((values[name] or 0.0) <= limit for name, limit in limits.items())


def _rate(amount: float, duration_s: float) -> float:
    return round(amount / duration_s, 3) if duration_s > 0 else 0.0


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = np.percentile(values, PERCENTILES)
    named = {f"p{part}": round(float(value), 3) for part, value in zip(PERCENTILES, found, strict=True)}
    return {**named, "mean": round(float(np.mean(values)), 3)}


def _weighted_percentiles(pairs: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    if not pairs:
        return None
    values, weights = np.array(pairs).T
    found = np.quantile(values, [part / 100 for part in PERCENTILES], weights=weights, method="inverted_cdf")
    named = {f"p{part}": round(float(value), 3) for part, value in zip(PERCENTILES, found, strict=True)}
    return {**named, "mean": round(float(np.average(values, weights=weights)), 3)}
