"""What the figures of several rounds, turn about, come to."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.comparison import compared


def _round(rate: float, firsts: list[float], duration_s: float) -> dict[str, Any]:
    tokens = rate * duration_s / len(firsts)
    return {
        "figures": {
            "output_tokens_per_s": rate,
            "duration_s": duration_s,
            "num_failed": 0,
            "tpot_ms": {"p50": 8.0},
        },
        "requests": [{"ttft_ms": first, "tokens": tokens} for first in firsts],
    }


def test_rounds_weigh_by_their_time_and_each_is_compared_with_its_own_turn() -> None:
    found = compared(
        {
            "direct": [_round(100.0, [20.0, 30.0], 10.0), _round(80.0, [40.0, 600.0], 30.0)],
            "gateway": [_round(90.0, [22.0, 33.0], 10.0), _round(88.0, [41.0, 70.0], 30.0)],
        }
    )
    assert found["direct"]["output_tokens_per_s"] == 85.0
    assert found["gateway"]["output_tokens_per_s"] == 88.5
    assert found["gateway"]["throughput_ratio"] == round(88.5 / 85.0, 4)
    assert found["gateway"]["ratio_by_round"] == [0.9, 1.1]
    assert found["direct"]["least_to_most"] == 0.8
    assert found["direct"]["ttft_ms"]["p50"] == 35.0
    assert found["gateway"]["added_ttft_ms"]["p50"] == 37.0 - 35.0
    assert found["direct"]["within_limit"] == 0.75
    assert "throughput_ratio" not in found["direct"]


def test_the_burst_that_a_closed_load_begins_with_is_told_apart() -> None:
    found = compared(
        {
            "direct": [_round(100.0, [100.0, 200.0, 20.0, 22.0], 10.0)] * 2,
            "gateway": [_round(100.0, [130.0, 230.0, 21.0, 23.0], 10.0)] * 2,
        },
        width=2,
    )
    assert found["direct"]["ttft_ms_burst"]["p50"] == 150.0
    assert found["direct"]["ttft_ms_after_burst"]["p50"] == 21.0
    assert found["gateway"]["added_ttft_ms_burst"]["p50"] == 30.0
    assert found["gateway"]["added_ttft_ms_after_burst"] == dict.fromkeys(
        ("p10", "p50", "p90", "p99", "mean"), 1.0
    )
    low, high = found["gateway"]["added_ttft_p50_ms_after_burst_interval"]
    assert low <= 1.0 <= high and high - low <= 4.0


def test_what_passes_outside_of_the_engine_is_compared_with_a_relay() -> None:
    def noted(firsts: list[float], engine: list[float]) -> dict[str, Any]:
        one = _round(100.0, firsts, 10.0)
        for request, engine_ms in zip(one["requests"], engine, strict=True):
            request["engine_ms"] = engine_ms
        return one

    found = compared(
        {
            "direct": [_round(100.0, [100.0, 20.0, 22.0], 10.0)],
            # Its engine was slow, which is not its doing.
            "gateway": [noted([190.0, 52.0, 82.0], [150.0, 50.0, 80.0])],
            "relay": [noted([101.0, 20.5, 22.5], [100.5, 20.0, 22.0])],
        },
        width=1,
    )
    assert found["gateway"]["ttft_outside_engine_ms"]["p50"] == 2.0
    assert found["gateway"]["ttft_outside_engine_ms_burst"]["p50"] == 40.0
    assert found["gateway"]["added_outside_engine_ms"]["p50"] == 1.5
    assert found["gateway"]["added_outside_engine_p50_ms_interval"] == [1.5, 1.5]
    assert "ttft_outside_engine_ms" not in found["direct"]
