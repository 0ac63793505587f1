"""TurboMind alone against through the gateway, load by load and turn about.

    python -m benchmarks.gpu.paired --tokenizer FOLDER --out result.json            a random 7B on one GPU
    python -m benchmarks.gpu.paired --tokenizer FOLDER --url http://... --rounds 2 --loads 1,4   rehearsal

Two runs of the same load on the same server differ by several per cent. So both ways are up all the time, each load
goes over one and then the other with the same prompts, and whichever was second goes first in the next round. A
figure is of all rounds together; the ratio of each round, and how far TurboMind alone differs from itself, stand
beside it. --again has TurboMind alone a second time as a way of its own: what it differs by from itself is nobody's
cost. --relay has one through a process that only copies bytes, which any gateway is at the least.
Prompts, answers and weights are those of benchmarks.gpu.serving.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.services import gateway, relay
from benchmarks.gpu.serving import add_model_arguments, ensure_model, rag_prompts, server
from benchmarks.gpu.steps import Steps
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load

_PACKAGES = ("lmdeploy", "torch", "transformers", "fastapi", "uvicorn", "uvloop", "httptools")
_ANSWER_TOKENS = 150
_TTFT_LIMIT_MS = 500.0

Ways = dict[str, tuple[str, str]]
"""URL and model by way: `direct`, `gateway`, `again`, `relay`."""
Records = dict[str, dict[str, list[dict[str, Any]]]]
"""By load and way, a record a round of run_load's figures and requests."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; returns 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_model_arguments(parser, shape="7b-gqa")
    parser.add_argument("--loads", default="1,32,128,256,24/s", help="at once, or a second with /s")
    parser.add_argument("--waves", type=float, default=3.0, help="requests of a load, times its width")
    parser.add_argument("--least", type=int, default=10, help="requests of a load")
    parser.add_argument("--seconds", type=float, default=6.0, help="of an open load")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--again", action="store_true", help="one more way: TurboMind alone once more")
    parser.add_argument("--relay", action="store_true", help="one more way: a relay that only copies bytes")
    parser.add_argument("--prompts", type=int, default=3000, help="different ones")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    steps = Steps("groundtune gpu gateway, turn about", options.out, _PACKAGES)
    options.work.mkdir(parents=True, exist_ok=True)
    steps.run("model", lambda: ensure_model(options, "bf16"))
    with contextlib.ExitStack() as up:
        ways = steps.run("servers", lambda: _started(options, up))
        if ways is not None:
            prompts = rag_prompts(options.tokenizer, options.prompts)
            records: Records = {}
            for number in range(options.rounds):
                # Noted after each: one that fails or is cut off takes no other with it.
                steps.run(
                    f"rounds, {number + 1}", partial(one_round, ways, options, prompts, number, records)
                )
    return steps.status


def _started(options: argparse.Namespace, up: contextlib.ExitStack) -> Ways:
    url = up.enter_context(server(options, "bf16", ()))
    through = up.enter_context(gateway(options.work, url, options.model))
    ways = {"direct": (url, options.model), "gateway": (through, "tuned")}
    if options.again:
        ways["again"] = ways["direct"]
    if options.relay:
        ways["relay"] = (up.enter_context(relay(options.work, url)), options.model)
    return ways


def one_round(
    ways: Ways, options: argparse.Namespace, prompts: Sequence[str], number: int, records: Records
) -> dict[str, Any]:
    """Send every load both ways, noted in `records`; returns each load's figures over all rounds so far."""
    levels = [_level(text, options) for text in options.loads.split(",")]
    if number == 0:
        widest = max(level.concurrency or 1 for level in levels)
        for at, model in ways.values():
            # An engine's first batches of each size are slow.
            _run(at, model, Level(widest, concurrency=widest), prompts, seed=999)
    order = list(ways)
    # Of two, whichever was second goes first; of n, each has each place in n rounds.
    order = order[number % len(order) :] + order[: number % len(order)]
    for level in levels:
        of_level = records.setdefault(level.label, {way: [] for way in ways})
        for way in order:
            of_level[way].append(_run(*ways[way], level, prompts, seed=number))
    return {
        "rounds": number + 1,
        **{label: compared(of) for label, of in records.items()},
    }


def compared(records: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what the ways did with one load.

    Args:
        records: By way (`direct`, and those compared with it), a record a round of run_load's figures and requests.
    """
    found: dict[str, Any] = {way: _together(of_rounds) for way, of_rounds in records.items()}
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
            medians = zip(figures["ttft_p50_ms_by_round"], alone["ttft_p50_ms_by_round"], strict=True)
            figures["added_ttft_p50_ms_by_round"] = [
                round(through - direct, 3) for through, direct in medians
            ]
            figures["added_ttft_p50_ms"] = round(figures["ttft_ms"]["p50"] - alone["ttft_ms"]["p50"], 3)
    return found


def _together(of_rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    requests = [request for one in of_rounds for request in one["requests"] if not request.get("error")]
    seconds = sum(one["figures"]["duration_s"] for one in of_rounds)
    firsts = [request["ttft_ms"] for request in requests if "ttft_ms" in request]
    return {
        "num_requests": len(requests),
        "num_failed": sum(one["figures"]["num_failed"] for one in of_rounds),
        "duration_s": round(seconds, 3),
        "output_tokens_per_s": round(sum(request["tokens"] for request in requests) / seconds, 1),
        "output_tokens_per_s_by_round": [one["figures"]["output_tokens_per_s"] for one in of_rounds],
        "ttft_ms": {f"p{part}": round(float(np.percentile(firsts, part)), 3) for part in (50, 90, 99)},
        "ttft_p50_ms_by_round": [one["figures"]["ttft_ms"]["p50"] for one in of_rounds],
        "tpot_p50_ms_by_round": [one["figures"]["tpot_ms"]["p50"] for one in of_rounds],
        "within_limit": round(sum(first <= _TTFT_LIMIT_MS for first in firsts) / len(firsts), 4),
    }


def _run(url: str, model: str, level: Level, prompts: Sequence[str], seed: int) -> dict[str, Any]:
    plan = LoadPlan(
        url=url,
        settings=RequestSettings(model, _ANSWER_TOKENS),
        levels=(level,),
        num_warmup=4,
        limits={"ttft_ms": _TTFT_LIMIT_MS},
        seed=seed,
    )
    (found,) = run_load(plan, prompts, None)["levels"]
    return {"figures": found["figures"], "requests": found["requests"]}


def _level(text: str, options: argparse.Namespace) -> Level:
    if text.endswith("/s"):
        rate = float(text[:-2])
        return Level(max(options.least, round(rate * options.seconds)), rate=rate)
    width = int(text)
    return Level(max(options.least, round(width * options.waves)), concurrency=width)


if __name__ == "__main__":
    sys.exit(main())
