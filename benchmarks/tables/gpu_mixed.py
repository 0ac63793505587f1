"""A table and the README's line of loads whose requests' ways were chosen at random (benchmarks.gpu.mixed).

Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables.shape import Result, table

_EXPLAINED = (
    "One load by both ways, chosen at random for each of its requests; the opening burst of a closed load is left out. "
    "`At that moment`: how much later first tokens were than those of the requests that went to TurboMind directly "
    "just before and after (interpolated), which frees it from how many requests TurboMind had to serve; in brackets "
    "95% bootstrap intervals."
)


def mixed_loads(result: Result) -> dict[str, Mapping[str, Any]]:
    """Return the figures after the last round, by load; none where it has none of this kind."""
    noted = [step for name, step in result["steps"].items() if name.startswith("mixed") and "rounds" in step]
    return {load: found for load, found in noted[-1].items() if isinstance(found, dict)} if noted else {}


def mixed_line(result: Result) -> str:
    """Return what the gateway adds to first tokens, load by load."""
    added = [
        found["ways"]["gateway"]["added_at_that_moment"]["p50"] for found in mixed_loads(result).values()
    ]
    return f"first tokens of requests assigned at random {', '.join(f'{value:+.1f}' for value in added)} ms (p50)"


def mixed_body(result: Result) -> str:
    """Return the table with what it is of."""
    rows = []
    for load, found in mixed_loads(result).items():
        direct, through = (found["ways"][name] for name in ("direct", "gateway"))
        moment, plain = through["added_at_that_moment"], through["added"]
        rows.append(
            (
                load,
                f"{direct['num_requests']:,} / {through['num_requests']:,}",
                f"{direct['ttft_ms']['p50']:.1f} / {through['ttft_ms']['p50']:.1f}",
                f"{plain['ttft_ms']['p50']:+.1f} {_bounds(plain['ttft_ms']['interval'])}",
                f"{moment['p50']:+.2f} {_bounds(moment['p50_interval'])}",
                f"{moment['mean']:+.2f} {_bounds(moment['mean_interval'])}",
                f"{through['ttft_outside_engine_ms']['p50']:.2f}",
                f"{plain['tpot_ms']['p50']:+.2f} {_bounds(plain['tpot_ms']['interval'], 2)}",
            )
        )
    head = (
        "load",
        "requests: directly / through the gateway",
        "TTFT p50 (ms)",
        "difference of medians (ms)",
        "at that moment: median (ms)",
        "mean (ms)",
        "outside of the engine, p50 (ms)",
        "TPOT, difference of medians (ms)",
    )
    return f"{_EXPLAINED}\n\n{table(head, rows)}"


def _bounds(interval: list[float], digits: int = 1) -> str:
    low, high = interval
    return f"[{low:.{digits}f}, {high:.{digits}f}]"
