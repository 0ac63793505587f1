"""TurboMind alone against through the gateway, load by load and turn about.

    python -m benchmarks.gpu.paired --tokenizer FOLDER --out result.json            a random 7B on one GPU
    python -m benchmarks.gpu.paired --tokenizer FOLDER --url http://... --rounds 2 --loads 1,4   rehearsal

Two runs of the same load on the same server differ by several per cent. So both ways are up all the time, each load
goes over one and then the other with the same prompts, and whichever was second goes first in the next round. A
figure is of all rounds together; the ratio of each round, and how far TurboMind alone differs from itself, stand
beside it. --again has TurboMind alone a second time as a way of its own: what it differs by from itself is nobody's
cost. --relay has one through a process that only copies bytes, which any gateway is at the least, and puts that process
behind the gateway too: it notes when questions and first tokens come past (benchmarks.gpu.relay), so that of each
request what passed outside of the engine is known, and what the gateway has more of it than the relay alone.
Prompts and weights are those of benchmarks.gpu.serving; answers are --spread about 150 tokens. A closed load begins
with all its requests at once: those, which measure how a burst is read, are told apart from the rest. Its later
requests come after --think-ms on average. Without, each would come right after the step of the engine in which
another ended, and a millisecond more or less between the two would decide whether it waits for one step or for two.

Turns compare throughput. What a way adds to a first token, they do not tell where many requests are under way: the
engine's own first tokens differ by more from one run to the next. --mixed does: after the turns of each round, a load
as wide in which a lot decides for every request which way it goes (benchmarks.gpu.mixed).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.comparison import TTFT_LIMIT_MS, compared
from benchmarks.gpu.mixed import run_mixed
from benchmarks.gpu.mixed_figures import mixed_figures
from benchmarks.gpu.relay import mark_of
from benchmarks.gpu.services import gateway, relay, relay_notes
from benchmarks.gpu.serving import add_model_arguments, ensure_model, rag_prompts, server
from benchmarks.gpu.steps import Steps
from benchmarks.gpu.way import Way
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load

_PACKAGES = ("lmdeploy", "torch", "transformers", "fastapi", "uvicorn", "uvloop", "httptools")
_ANSWER_TOKENS = 150


Ways = dict[str, Way]
"""By name: `direct`, `gateway`, `again`, `relay`."""
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
    parser.add_argument(
        "--think-ms", type=float, default=40.0, help="mean pause in front of a closed load's next request"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="of an open load")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--again", action="store_true", help="one more way: TurboMind alone once more")
    parser.add_argument("--relay", action="store_true", help="one more way: a relay that only copies bytes")
    parser.add_argument(
        "--mixed", type=float, default=0.0, help="requests of a load by lot, times those of a way's turn"
    )
    parser.add_argument("--turns", default="", help="ways that take turns; all of them if empty, - none")
    parser.add_argument("--lots", default="", help="ways that --mixed draws from; all of them if empty")
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
            mixed: dict[str, list[dict[str, Any]]] = {}
            for number in range(options.rounds):
                # Noted after each: one that fails or is cut off takes no other with it.
                steps.run(
                    f"rounds, {number + 1}", partial(one_round, ways, options, prompts, number, records)
                )
                if options.mixed:
                    steps.run(
                        f"mixed, {number + 1}", partial(one_mixed, ways, options, prompts, number, mixed)
                    )
    return steps.status


def _started(options: argparse.Namespace, up: contextlib.ExitStack) -> Ways:
    url = up.enter_context(server(options, "bf16", ()))
    ways = {"direct": Way(url, options.model)}
    past = up.enter_context(relay(options.work, url)) if options.relay else None
    through = up.enter_context(gateway(options.work, past or url, options.model))
    ways["gateway"] = Way(through, "tuned", past)
    if options.again:
        ways["again"] = ways["direct"]
    if past is not None:
        ways["relay"] = Way(past, options.model, past)
    return ways


def one_round(
    ways: Ways, options: argparse.Namespace, prompts: Sequence[str], number: int, records: Records
) -> dict[str, Any]:
    """Send every load both ways, noted in `records`; returns each load's figures over all rounds so far."""
    levels = [_level(text, options) for text in options.loads.split(",")]
    if number == 0:
        widest = max(level.concurrency or 1 for level in levels)
        for way in ways.values():
            # An engine's first batches of each size are slow.
            run_level(way, Level(widest, concurrency=widest), prompts, options.spread, seed=999)
    wanted = options.turns.split(",") if options.turns else list(ways)
    order = [name for name in ways if name in wanted]
    if not order:
        return {"rounds": 0}
    # Of two, whichever was second goes first; of n, each has each place in n rounds.
    order = order[number % len(order) :] + order[: number % len(order)]
    for level in levels:
        of_level = records.setdefault(level.label, {name: [] for name in order})
        for name in order:
            of_level[name].append(run_level(ways[name], level, prompts, options.spread, seed=number))
    widths = {level.label: level.concurrency or 0 for level in levels}
    return {
        "rounds": number + 1,
        **{label: compared(of, widths[label]) for label, of in records.items()},
    }


def one_mixed(
    ways: Ways,
    options: argparse.Namespace,
    prompts: Sequence[str],
    number: int,
    records: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Send every load once, by all ways at once, noted in `records`; returns each load's figures over all rounds.

    The requests stand in a file beside the result.
    """
    levels = [_level(text, options) for text in options.loads.split(",")]
    wanted = options.lots.split(",") if options.lots else list(ways)
    ways = {name: way for name, way in ways.items() if name in wanted}
    for level in levels:
        num = round(level.num_requests * options.mixed)
        if level.concurrency is not None:
            num += level.concurrency
        settings = RequestSettings("", _ANSWER_TOKENS, length_spread=options.spread)
        found = run_mixed(ways, replace(level, num_requests=num), prompts, settings, seed=1000 + number)
        records.setdefault(level.label, []).append(found)
    raw = options.out.with_name(f"{options.out.stem}-requests.json")
    raw.write_text(json.dumps(records), encoding="utf-8")
    widths = {level.label: level.concurrency or 0 for level in levels}
    return {
        "rounds": number + 1,
        **{label: mixed_figures(of, widths[label]) for label, of in records.items()},
    }


def run_level(
    way: Way,
    level: Level,
    prompts: Sequence[str],
    spread: float,
    *,
    seed: int,
    answer_tokens: int = _ANSWER_TOKENS,
) -> dict[str, Any]:
    """Send one load one way; returns run_load's figures and requests, with `engine_ms` where a relay noted it."""
    plan = LoadPlan(
        url=way.url,
        settings=RequestSettings(way.model, answer_tokens, length_spread=spread),
        levels=(level,),
        num_warmup=1,
        limits={"ttft_ms": TTFT_LIMIT_MS},
        seed=seed,
    )
    if way.relay is not None:
        relay_notes(way.relay)
    (found,) = run_load(plan, prompts, None)["levels"]
    if way.relay is not None:
        # A question that came twice, as the first of all does, is the later one.
        engine_ms = {
            note["mark"]: 1000 * (note["first_s"] - note["asked_s"]) for note in relay_notes(way.relay)
        }
        for request in found["requests"]:
            mark = mark_of(prompts[request["question"]])
            if mark in engine_ms:
                request["engine_ms"] = engine_ms[mark]
    return {"figures": found["figures"], "requests": found["requests"]}


def _level(text: str, options: argparse.Namespace) -> Level:
    if text.endswith("/s"):
        rate = float(text[:-2])
        return Level(max(options.least, round(rate * options.seconds)), rate=rate)
    width = int(text)
    num = max(options.least, round(width * options.waves))
    return Level(num, concurrency=width, think_s=options.think_ms / 1000)


if __name__ == "__main__":
    sys.exit(main())
