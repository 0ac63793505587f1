"""What several ways to one engine did with one load, beside each other. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

TTFT_LIMIT_MS = 500.0
_RESAMPLES = 2000
Record = Mapping[str, Any]
"""Of one round: run_load's `figures` and `requests`; a request that went past a relay also has `engine_ms`."""


def compared(records: Mapping[str, Sequence[Record]], width: int = 0) -> dict[str, Any]:
    """Return what the ways did with one load.

    Args:
        records: By way (`direct`, and those compared with it), a record a round.
        width: Requests of a closed load that are sent at once in the beginning of each round.
    """
    found: dict[str, Any] = {way: _together(of_rounds, width) for way, of_rounds in records.items()}
    alone = found["direct"]
    by_round = alone["output_tokens_per_s_by_round"]
    alone["least_to_most"] = round(min(by_round) / max(by_round), 4)
    for way, figures in found.items():
        if way != "direct":
            figures["throughput_ratio"] = round(
                figures["output_tokens_per_s"] / alone["output_tokens_per_s"], 4
            )
            pairs = zip(figures["output_tokens_per_s_by_round"], by_round, strict=True)
            figures["ratio_by_round"] = [round(through / direct, 4) for through, direct in pairs]
            for kind in ("ttft_ms", "ttft_ms_burst", "ttft_ms_after_burst"):
                if kind in figures:
                    figures[f"added_{kind}"] = {
                        part: round(figures[kind][part] - alone[kind][part], 3) for part in alone[kind]
                    }
            firsts = (_firsts(records[name], width)[1] for name in (way, "direct"))
            figures["added_ttft_p50_ms_after_burst_interval"] = interval_of_medians(*firsts)
    _compare_outside(records, width, found)
    return found


def _compare_outside(records: Mapping[str, Sequence[Record]], width: int, found: dict[str, Any]) -> None:
    """Note what a first token needs outside of the engine, and how much more of it the gateway has than the relay."""
    by_way = {way: _outside_ms(of_rounds, width) for way, of_rounds in records.items()}
    for way, parts in by_way.items():
        for suffix, values in zip(("_burst", ""), parts, strict=True):
            if values:
                found[way][f"ttft_outside_engine_ms{suffix}"] = _spread_of(values)
    if by_way.get("gateway", ([], []))[1] and by_way.get("relay", ([], []))[1]:
        figures, bare = found["gateway"], found["relay"]
        figures["added_outside_engine_ms"] = {
            part: round(value - bare["ttft_outside_engine_ms"][part], 3)
            for part, value in figures["ttft_outside_engine_ms"].items()
        }
        figures["added_outside_engine_p50_ms_interval"] = interval_of_medians(
            by_way["gateway"][1], by_way["relay"][1]
        )


def _outside_ms(of_rounds: Sequence[Record], width: int) -> tuple[list[float], list[float]]:
    """Return what the engine did not have of the times from sending to the first token: in bursts, and after them."""
    return _apart(
        of_rounds,
        width,
        "engine_ms",
        lambda request: request["ttft_ms"] - (request.get("lateness_ms") or 0.0) - request["engine_ms"],
    )


def _firsts(of_rounds: Sequence[Record], width: int) -> tuple[list[float], list[float]]:
    """Return the times to the first token in the bursts that rounds begin with, and after them."""
    return _apart(of_rounds, width, "ttft_ms", lambda request: float(request["ttft_ms"]))


def _apart(
    of_rounds: Sequence[Record], width: int, needed: str, value: Callable[[Mapping[str, Any]], float]
) -> tuple[list[float], list[float]]:
    """Return a value of each whole request that has `needed`: of the first `width` of a round, and of the others."""
    parts: dict[bool, list[float]] = {True: [], False: []}
    for one in of_rounds:
        for place, request in enumerate(one["requests"]):
            if not request.get("error") and needed in request:
                parts[place < width].append(value(request))
    return parts[True], parts[False]


def interval_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """Return the 95% bootstrap interval of the difference of medians, or None where there is nothing to compare."""
    if not ours or not theirs:
        return None
    random = np.random.default_rng(0)
    one, other = (
        np.median(random.choice(np.array(firsts), (_RESAMPLES, len(firsts))), axis=1)
        for firsts in (ours, theirs)
    )
    return [round(float(bound), 3) for bound in np.percentile(one - other, [2.5, 97.5])]


def _spread_of(values: Sequence[float]) -> dict[str, float]:
    found = {f"p{part}": round(float(np.percentile(values, part)), 3) for part in (10, 50, 90, 99)}
    return {**found, "mean": round(float(np.mean(values)), 3)}


def _together(of_rounds: Sequence[Record], width: int) -> dict[str, Any]:
    requests = [request for one in of_rounds for request in one["requests"] if not request.get("error")]
    seconds = sum(one["figures"]["duration_s"] for one in of_rounds)
    burst, after = _firsts(of_rounds, width)
    firsts = [*burst, *after]
    apart = {"ttft_ms_burst": burst, "ttft_ms_after_burst": after} if burst and after else {}
    return {
        "num_requests": len(requests),
        "num_failed": sum(one["figures"]["num_failed"] for one in of_rounds),
        "duration_s": round(seconds, 3),
        "output_tokens_per_s": round(sum(request["tokens"] for request in requests) / seconds, 1),
        "output_tokens_per_s_by_round": [one["figures"]["output_tokens_per_s"] for one in of_rounds],
        "ttft_ms": _spread_of(firsts),
        **{name: _spread_of(some) for name, some in apart.items()},
        "ttft_p50_ms_by_round": [round(float(np.median(_all_firsts(one, width))), 3) for one in of_rounds],
        "tpot_p50_ms_by_round": [one["figures"]["tpot_ms"]["p50"] for one in of_rounds],
        "within_limit": round(sum(first <= TTFT_LIMIT_MS for first in firsts) / len(firsts), 4),
    }


def _all_firsts(one: Record, width: int) -> list[float]:
    """Return a round's times to the first token, those of its opening burst only where there are no others."""
    burst, after = _firsts([one], width)
    return after or burst
