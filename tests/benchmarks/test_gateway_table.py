"""What the table of a gateway in front of TurboMind says of the burst that a load begins with."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.comparison import compared
from benchmarks.gpu.mixed_figures import mixed_figures
from benchmarks.tables.gpu_gateway_sections import GPU_GATEWAY_SECTIONS

MODEL = {"model": {"shape": "7b-mha"}}


def _round(first_ms: float) -> dict[str, Any]:
    figures = {"output_tokens_per_s": 100.0, "duration_s": 10.0, "num_failed": 0, "tpot_ms": {"p50": 8.0}}
    requests = [{"ttft_ms": 10 * first_ms, "tokens": 5.0}, *({"ttft_ms": first_ms, "tokens": 5.0},) * 3]
    return {"figures": figures, "requests": requests}


def test_the_rest_of_a_load_stands_apart_where_it_was_measured() -> None:
    records = {"direct": [_round(20.0)] * 2, "gateway": [_round(21.0)] * 2}
    for width, expected in ((1, "21.0, +1.0 [1.0, 1.0]"), (0, None)):
        step = {"rounds": 2, "32 at once": compared(records, width)}
        shown = GPU_GATEWAY_SECTIONS[0].body({"gpu": "G", "steps": {**MODEL, "rounds, 2": step}})
        assert ("after the opening burst" in shown) is (expected is not None)
        assert expected is None or expected in shown


def test_what_the_gateway_adds_of_each_request_stands_in_body_and_summary() -> None:
    records = {name: [_round(20.0)] for name in ("direct", "gateway", "relay")}
    for name, outside_ms in (("gateway", 2.0), ("relay", 0.5)):
        for request in records[name][0]["requests"]:
            request["engine_ms"] = request["ttft_ms"] - outside_ms
    result = {"gpu": "G", "steps": {**MODEL, "rounds, 1": {"rounds": 1, "32 at once": compared(records, 1)}}}
    section = GPU_GATEWAY_SECTIONS[0]
    assert "2.00 / 2.0, +1.50 [1.50, 1.50]" in section.body(result)
    assert "it adds 1.5 ms (p50) to a first token" in section.lines(result)[0][1]


def test_a_load_of_both_ways_stands_beside_turns_and_alone() -> None:
    requests = [
        {
            "way": way,
            "start_s": place * 0.1,
            "ttft_ms": 20.0 + added,
            "tpot_ms": 8.0,
            "e2e_ms": 900.0,
            "engine_ms": 19.0,
        }
        for place, (way, added) in enumerate([("direct", 0.0), ("gateway", 1.5)] * 30)
    ]
    mixed = mixed_figures([{"figures": {"output_tokens_per_s": 100.0}, "requests": requests}])
    turns = compared({name: [_round(20.0)] for name in ("direct", "gateway")})
    section = GPU_GATEWAY_SECTIONS[0]
    alone = {**MODEL, "mixed, 1": {"rounds": 1, "32 at once": mixed}}
    for steps in (alone, {**alone, "rounds, 1": {"rounds": 1, "32 at once": turns}}):
        ((title, told),) = section.lines({"gpu": "G", "steps": steps})
        assert title.endswith("the Llama shape of 7B (MHA): 32 at once")
        assert told.endswith("first tokens of requests assigned at random +1.5 ms (p50)")
        assert ("100.0% of its own throughput" in told) is ("rounds, 1" in steps)
        body = section.body({"gpu": "G", "steps": steps})
        assert (
            "| 32 at once | 30 / 30 | 20.0 / 21.5 | +1.5 [1.5, 1.5] | +1.50 [1.5, 1.5] | +1.50 [1.5, 1.5] | 2.50 |"
            in body
        )
        assert ("turn about" in body) is ("rounds, 1" in steps)
