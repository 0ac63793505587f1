"""What the ways of a mixed load did (benchmarks.gpu.mixed), each compared with the engine alone. Pure functions.

Two estimates of what a way adds to the time of a first token: the difference of medians; and, request by request, the
difference to what the engine alone took at that moment, which is read off the direct requests sent just before and
just after. How many requests the engine has before it changes from second to second and is most of a first token's
time; the second estimate is free of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gpu.comparison import interval_of_medians

Floats = npt.NDArray[np.float64]
Request = Mapping[str, Any]

BASE = "direct"
_RESAMPLES = 2000
# Neighbours share what the engine had to do: resampled together.
_BLOCK_S = 1.0


def mixed_figures(rounds: Sequence[Mapping[str, Any]], width: int = 0) -> dict[str, Any]:
    """Return what each way did, over all rounds, and what it adds to `direct`.

    Args:
        rounds: run_mixed's results, a load's.
        width: Requests that are sent at once in the beginning of each round, of which only the count is told.
    """
    parts = [[request for request in one["requests"][width:] if not request.get("error")] for one in rounds]
    found: dict[str, Any] = {
        "num_in_bursts": sum(min(width, len(one["requests"])) for one in rounds),
        "output_tokens_per_s_by_round": [one["figures"]["output_tokens_per_s"] for one in rounds],
        "ways": {},
    }
    names = sorted({request["way"] for requests in parts for request in requests})
    for name in names:
        requests = [request for part in parts for request in part if request["way"] == name]
        figures: dict[str, Any] = {
            "num_requests": len(requests),
            "num_failed": sum(
                bool(request.get("error")) and request["way"] == name
                for one in rounds
                for request in one["requests"]
            ),
            **{kind: _spread(_values(requests, kind)) for kind in ("ttft_ms", "tpot_ms", "e2e_ms")},
        }
        outside = [
            _sent_to_first(request) - request["engine_ms"] for request in requests if "engine_ms" in request
        ]
        if outside:
            figures["ttft_outside_engine_ms"] = _spread(np.array(outside))
        if name != BASE and BASE in names:
            base = [request for part in parts for request in part if request["way"] == BASE]
            figures["added"] = {
                kind: _difference(_values(requests, kind), _values(base, kind))
                for kind in ("ttft_ms", "tpot_ms", "e2e_ms")
            }
            figures["added_at_that_moment"] = _matched(parts, name)
        found["ways"][name] = figures
    return found


def _sent_to_first(request: Request) -> float:
    return float(request["ttft_ms"]) - float(request.get("lateness_ms") or 0.0)


def _values(requests: Sequence[Request], kind: str) -> Floats:
    return np.array([request[kind] for request in requests if request.get(kind) is not None], dtype=float)


def _spread(values: Floats) -> dict[str, float] | None:
    if not len(values):
        return None
    told = {f"p{part}": round(float(np.percentile(values, part)), 3) for part in (10, 50, 90, 99)}
    return {**told, "mean": round(float(np.mean(values)), 3)}


def _difference(ours: Floats, theirs: Floats) -> dict[str, Any] | None:
    """Return the difference of medians with its 95% bootstrap interval."""
    if not len(ours) or not len(theirs):
        return None
    return {
        "p50": round(float(np.median(ours) - np.median(theirs)), 3),
        "interval": interval_of_medians(ours.tolist(), theirs.tolist()),
    }


def _matched(parts: Sequence[Sequence[Request]], name: str) -> dict[str, Any] | None:
    """Return the median and mean of what requests took longer than direct ones at their moment, with intervals."""
    blocks: list[Floats] = []
    for requests in parts:
        base = sorted((request for request in requests if request["way"] == BASE), key=_when)
        ours = [request for request in requests if request["way"] == name]
        if len(base) < 2:
            continue
        times = np.array([_when(request) for request in base])
        expected = np.interp([_when(request) for request in ours], times, _values(base, "ttft_ms"))
        added = _values(ours, "ttft_ms") - expected
        of_block = np.floor(np.array([_when(request) for request in ours]) / _BLOCK_S)
        blocks.extend(added[of_block == block] for block in np.unique(of_block))
    if not blocks:
        return None
    together = np.concatenate(blocks)
    random = np.random.default_rng(0)
    medians, means = [], []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([blocks[place] for place in random.integers(len(blocks), size=len(blocks))])
        medians.append(np.median(drawn))
        means.append(np.mean(drawn))
    return {
        "num_requests": len(together),
        "p50": round(float(np.median(together)), 3),
        "p50_interval": _interval(np.array(medians)),
        "mean": round(float(np.mean(together)), 3),
        "mean_interval": _interval(np.array(means)),
    }


def _when(request: Request) -> float:
    return float(request["start_s"])


def _interval(values: Floats) -> list[float]:
    return [round(float(bound), 3) for bound in np.percentile(values, [2.5, 97.5])]
