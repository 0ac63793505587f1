"""The relay between a gateway and an engine: copies everything, and notes when questions and first texts came past."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.mixed import run_mixed
from benchmarks.gpu.mixed_figures import mixed_figures
from benchmarks.gpu.paired import run_level
from benchmarks.gpu.relay import mark_of
from benchmarks.gpu.services import gateway, relay, relay_notes
from benchmarks.gpu.way import Way
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level
from benchmarks.local_services import listening
from serving.engines.ports import free_ports

STEP_MS = 40.0
PROMPTS = [f"question {number}?" for number in range(24)]
LEVEL = Level(16, concurrency=4, think_s=0.02)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    """Both ways to an engine that works in steps, past one relay."""
    work: Path = tmp_path_factory.mktemp("relay")
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "benchmarks.gateway.stepping", str(port), "--step-ms", str(STEP_MS)]
    with ExitStack() as up:
        up.enter_context(listening(argv, port))
        # Its answer to /v1/models is one to any request: the relay is asked what it is asked.
        past = up.enter_context(relay(work, f"http://127.0.0.1:{port}/v1"))
        through = up.enter_context(gateway(work, past, "m"))
        yield {
            "direct": Way(f"http://127.0.0.1:{port}/v1", "m"),
            "gateway": Way(through, "tuned", past),
            "relay": Way(past, "m", past),
        }


@pytest.mark.parametrize("name", ["gateway", "relay"])
def test_what_the_engine_took_is_told_from_what_others_did(ways: dict[str, Way], name: str) -> None:
    requests = run_level(ways[name], LEVEL, PROMPTS, 0.9, seed=3, answer_tokens=4)["requests"]
    assert len(requests) == LEVEL.num_requests
    assert all(not request.get("error") for request in requests)
    engine_ms = [request["engine_ms"] for request in requests]
    # A question waits for the end of the step that runs, and comes at a time that no step chose.
    assert min(engine_ms) > 0 and max(engine_ms) < STEP_MS + 30
    assert max(engine_ms) - min(engine_ms) > STEP_MS / 4
    outside_ms = [request["ttft_ms"] - request["engine_ms"] for request in requests]
    assert min(outside_ms) > -0.5
    # Next to nothing for a copy of bytes; some for a gateway; neither as much as a step.
    assert np.median(outside_ms) < (2.0 if name == "relay" else 15.0)


def test_notes_are_of_the_questions_asked_and_told_once(ways: dict[str, Way]) -> None:
    way = ways["relay"]
    assert way.relay is not None
    relay_notes(way.relay)
    run_level(Way(way.url, way.model), LEVEL, PROMPTS, 0.0, seed=5, answer_tokens=4)
    notes = relay_notes(way.relay)
    assert {note["mark"] for note in notes} <= {mark_of(prompt) for prompt in PROMPTS}
    # One that is accepted or not, and one to warm up.
    assert len(notes) == LEVEL.num_requests + 2
    assert all(note["asked_s"] < note["first_s"] for note in notes)
    assert relay_notes(way.relay) == []


def test_of_a_load_by_lot_each_way_has_its_share_and_what_it_adds(ways: dict[str, Way]) -> None:
    prompts = [f"question by lot {number}?" for number in range(200)]
    level = Level(184, concurrency=4, think_s=0.02)
    run = run_mixed(ways, level, prompts, RequestSettings("", 4, length_spread=0.9), seed=1)
    assert len(run["requests"]) == level.num_requests and run["figures"]["num_failed"] == 0
    assert sorted(Counter(request["way"] for request in run["requests"]).values()) == [61, 61, 62]
    assert len({request["question"] for request in run["requests"]}) == level.num_requests
    assert all(("engine_ms" in request) is (request["way"] != "direct") for request in run["requests"])
    found = mixed_figures([run], 4)["ways"]
    # A step is 40 ms, and when in it a question comes decides over its first token; no way adds half as much.
    for name in ("gateway", "relay"):
        low, high = found[name]["added_at_that_moment"]["p50_interval"]
        assert low < 15.0 and high > -15.0
    assert (
        found["relay"]["ttft_outside_engine_ms"]["p50"]
        < found["gateway"]["ttft_outside_engine_ms"]["p50"]
        < 15
    )


def test_a_load_by_lot_needs_a_prompt_a_request(ways: dict[str, Way]) -> None:
    with pytest.raises(ValueError, match="27 requests need as many prompts; there are 24"):
        run_mixed(ways, Level(24, concurrency=4), PROMPTS, RequestSettings("", 4), seed=1)


def test_a_mark_is_of_the_last_message() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    assert mark_of(messages) == mark_of("why?") != mark_of("how?")
