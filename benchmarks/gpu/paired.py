"""TurboMind alone against through the gateway, load by load and turn about.

    python -m benchmarks.gpu.paired --tokenizer FOLDER --out result.json            a random 7B on one GPU
    python -m benchmarks.gpu.paired --tokenizer FOLDER --url http://... --rounds 2 --loads 1,4   rehearsal

Two runs of the same load on the same server differ by several per cent. So both ways are up all the time, each load
goes over one and then the other with the same prompts, and whichever was second goes first in the next round. A
figure is of all rounds together; the ratio of each round, and how far TurboMind alone differs from itself, stand
beside it. --again has TurboMind alone a second time as a way of its own: what it differs by from itself is nobody's
cost. --relay has one through a process that only copies bytes, which any gateway is at the least.
Prompts and weights are those of benchmarks.gpu.serving; answers are --spread about 150 tokens. A closed load begins
with all its requests at once: those, which measure how a burst is read, are told apart from the rest.
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
_RESAMPLES = 2000

Ways = dict[str, tuple[str, str]]
"""URL and model by way: `direct`, `gateway`, `again`, `relay`."""
Records = dict[str, dict[str, list[dict[str, Any]]]]
"""By load and way, a record a round of run_load's figures and requests."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; returns 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_model_arguments(parser, shape="7b-gqa")
    parser.add_argument("--loads", default="1,32,128,256,24/s", help="at once, or a second with /s")
    parser.add_argument("--waves", type=float, default=4.0, help="requests of a load, times its width")
    parser.add_argument(
        "--spread", type=float, default=0.5, help="of the answers' lengths, as a share of 150 tokens"
    )
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
            _run(at, model, Level(widest, concurrency=widest), prompts, options.spread, seed=999)
    order = list(ways)
    # Of two, whichever was second goes first; of n, each has each place in n rounds.
    order = order[number % len(order) :] + order[: number % len(order)]
    for level in levels:
        of_level = records.setdefault(level.label, {way: [] for way in ways})
        for way in order:
            of_level[way].append(_run(*ways[way], level, prompts, options.spread, seed=number))
    widths = {level.label: level.concurrency or 0 for level in levels}
    return {
        "rounds": number + 1,
        **{label: compared(of, widths[label]) for label, of in records.items()},
    }


def compared(records: dict[str, list[dict[str, Any]]], width: int = 0) -> dict[str, Any]:
    """Return what the ways did with one load.

    Args:
        records: By way (`direct`, and those compared with it), a record a round of run_load's figures and requests.
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
            figures["added_ttft_p50_ms_after_burst_interval"] = _interval_of_medians(*firsts)
    return found


def _firsts(of_rounds: Sequence[dict[str, Any]], width: int) -> tuple[list[float], list[float]]:
    """Return the times to the first token in the bursts that rounds begin with, and after them."""
    whole = (
        (place < width, request["ttft_ms"])
        for one in of_rounds
        for place, request in enumerate(one["requests"])
        if not request.get("error") and "ttft_ms" in request
    )
    parts: dict[bool, list[float]] = {True: [], False: []}
    for is_burst, first in whole:
        parts[is_burst].append(first)
    return parts[True], parts[False]


def _interval_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """Return the 95% bootstrap interval of the difference of medians, or None where there is nothing to compare."""
    if not ours or not theirs:
        return None
    random = np.random.default_rng(0)
    one, other = (
        np.median(random.choice(np.array(firsts), (_RESAMPLES, len(firsts))), axis=1)
        for firsts in (ours, theirs)
    )
    return [round(float(bound), 3) for bound in np.percentile(one - other, [2.5, 97.5])]


def _spread_of(firsts: Sequence[float]) -> dict[str, float]:
    found = {f"p{part}": round(float(np.percentile(firsts, part)), 3) for part in (10, 50, 90, 99)}
    return {**found, "mean": round(float(np.mean(firsts)), 3)}


def _together(of_rounds: Sequence[dict[str, Any]], width: int) -> dict[str, Any]:
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
        "tpot_p50_ms_by_round": [one["figures"]["tpot_ms"]["p50"] for one in of_rounds],
        "within_limit": round(sum(first <= _TTFT_LIMIT_MS for first in firsts) / len(firsts), 4),
    }


def _run(
    url: str, model: str, level: Level, prompts: Sequence[str], spread: float, *, seed: int
) -> dict[str, Any]:
    plan = LoadPlan(
        url=url,
        settings=RequestSettings(model, _ANSWER_TOKENS, length_spread=spread),
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
