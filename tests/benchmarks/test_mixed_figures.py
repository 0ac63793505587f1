"""What is told of a load whose requests went several ways by lot."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.mixed_figures import mixed_figures

NAMES = ("direct", "gateway")


def _round(added_ms: float, seed: int, num: int = 400) -> dict[str, Any]:
    """Return a round whose engine has now few and now many requests before it: 100 to 500 ms for a first token."""
    random = np.random.default_rng(seed)
    requests = []
    for place in range(num):
        when = place * 0.05
        way = NAMES[int(random.integers(2))]
        engine_ms = 300.0 + 200.0 * np.sin(when) + random.normal(0, 3)
        first = engine_ms + (added_ms if way == "gateway" else 0.0)
        requests.append(
            {
                "way": way,
                "start_s": when,
                "ttft_ms": first,
                "tpot_ms": 8.0,
                "e2e_ms": first + 1000,
                "engine_ms": engine_ms,
            }
        )
    return {"figures": {"output_tokens_per_s": 100.0}, "requests": requests}


def test_what_a_way_adds_is_found_though_the_engine_changes_by_far_more() -> None:
    for added_ms in (0.0, 2.0, 12.0):
        gateway = mixed_figures([_round(added_ms, seed) for seed in range(3)])["ways"]["gateway"]
        told = gateway["added_at_that_moment"]
        low, high = told["p50_interval"]
        assert low < added_ms < high and high - low < 2.0
        assert abs(told["mean"] - added_ms) < 1.0
        # The medians alone say nothing of so little.
        low, high = gateway["added"]["ttft_ms"]["interval"]
        assert low < added_ms < high and high - low > 20.0


def test_the_burst_of_each_round_and_failures_are_left_out_and_counted() -> None:
    rounds = [_round(5.0, seed, 40) for seed in range(2)]
    for one in rounds:
        for request in one["requests"][:10]:
            request["ttft_ms"] = 1e6
        one["requests"][20] = {"way": "gateway", "start_s": 1.0, "error": "timeout"}
    found = mixed_figures(rounds, width=10)
    assert found["num_in_bursts"] == 20
    assert sum(way["num_requests"] for way in found["ways"].values()) == 2 * 29
    assert found["ways"]["gateway"]["num_failed"] == 2 and found["ways"]["direct"]["num_failed"] == 0
    assert max(way["ttft_ms"]["p99"] for way in found["ways"].values()) < 1000
    # The engine's own part is known of each: what is left is what the way has.
    assert found["ways"]["gateway"]["ttft_outside_engine_ms"]["p50"] == 5.0
    assert "added" not in found["ways"]["direct"]
