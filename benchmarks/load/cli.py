"""`groundtune bench load` and `groundtune bench compare`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.errors import UsageError
from data.options import JsonOption, NameOption

if TYPE_CHECKING:
    from benchmarks.load.prompts import Prompt

_LIMIT_NAMES = ("ttft", "tpot", "e2e")


def load(
    url: Annotated[str, typer.Argument(help="The API's base URL, as in http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model to ask for.")] = "base",
    concurrency: Annotated[
        str | None, typer.Option(help="Closed loop: so many requests under way; several as in 1,4,16.")
    ] = None,
    think_ms: Annotated[
        float,
        typer.Option(
            min=0, help="Closed loop: mean pause between an answer and the next question in its place."
        ),
    ] = 0.0,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: so many requests a second; several as in 0.5,1,2.")
    ] = None,
    arrivals: Annotated[
        str, typer.Option(help="Of an open loop: poisson, gamma, constant, or ramp (from 0 up to --rate).")
    ] = "poisson",
    burstiness: Annotated[
        float, typer.Option(help="Shape of gamma's gaps: below 1 in bursts, above 1 evener.")
    ] = 0.5,
    trace: Annotated[
        Path | None,
        typer.Option(help="Open loop: replay JSON Lines of timestamp and question, or the server's own log."),
    ] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="Replay a trace so many times faster.")] = 1.0,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests a level; default: 10 x concurrency, at least 30.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of an open level, without --requests.")] = 30.0,
    warmup: Annotated[int, typer.Option(min=0, help="Requests in front of each level, not counted.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    length_spread: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Lengths between (1 - this) and (1 + this) times --max-tokens."),
    ] = 0.0,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="For goodput: ttft, tpot or e2e in ms, as in ttft=500; repeatable."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the model's tokenizer, to count tokens in pieces.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON Lines with `question`, or a workbook; default: the run's held-out ones."),
    ] = None,
    name: NameOption = "quickstart",
    body: Annotated[str, typer.Option(help="JSON laid over each request's body.")] = "{}",
    api_key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key, where the server wants one.")
    ] = "OPENAI_API_KEY",
    timeout: Annotated[float, typer.Option(help="Seconds that one request may take.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Of the questions' order and the arrivals.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for load.json, .csv, .png and .html; default: var/bench/load."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put load on an OpenAI-compatible server: first token, time per token, throughput, errors."""
    from benchmarks.load.arrivals import KINDS
    from benchmarks.load.connection import parse_address
    from benchmarks.load.prompts import read_questions, read_trace
    from benchmarks.load.report import print_table, write_files
    from benchmarks.load.request import RequestSettings
    from benchmarks.load.runner import Level, LoadPlan, run_load
    from benchmarks.load.tokens import TokenCounter
    from data.workspace import open_workspace

    kind = next((known for known in KINDS if known == arrivals), None)
    if kind is None:
        raise UsageError(f"--arrivals {arrivals!r}: choose one of {', '.join(KINDS)}")
    if sum(way is not None for way in (concurrency, rate, trace)) != 1:
        raise UsageError("give either --concurrency (closed loop), --rate or --trace (open loop)")
    if think_ms and concurrency is None:
        raise UsageError("--think-ms is of a closed loop; give --concurrency with it")
    parse_address(url)
    events = read_trace(trace, speed) if trace is not None else None
    if events is not None:
        levels = [Level(min(requests or len(events.due_s), len(events.due_s)), trace=events)]
    elif concurrency is not None:
        at_once = [int(number) for number in numbers(concurrency, "--concurrency", whole=True)]
        levels = [
            Level(requests or max(30, 10 * number), concurrency=number, think_s=think_ms / 1000)
            for number in at_once
        ]
    else:
        rates = numbers(rate or "", "--rate")
        # A ramp's mean rate is half of that at its end.
        share = 0.5 if kind == "ramp" else 1.0
        levels = [
            Level(requests or max(10, round(share * number * duration)), rate=number) for number in rates
        ]
    workspace = open_workspace()
    plan = LoadPlan(
        url=url,
        settings=RequestSettings(
            model,
            max_tokens,
            os.environ.get(api_key_variable) or None,
            extra=_extra(body),
            length_spread=length_spread,
        ),
        levels=tuple(levels),
        arrivals=kind,
        burstiness=burstiness,
        num_warmup=warmup,
        limits=_limits(limit or ()),
        timeout_s=timeout,
        seed=seed,
    )
    counter = TokenCounter(tokenizer) if tokenizer else None
    asked: Sequence[Prompt] = (
        events.prompts
        if events is not None
        else read_questions(questions or workspace.run(name).dataset / "paraphrases.jsonl")
    )
    report = run_load(plan, asked, counter)
    folder = out or workspace.root / "bench" / "load"
    write_files(report, folder)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_table(report)
        print(f"report: {folder / 'load.json'}")


def compare(
    before: Annotated[Path, typer.Argument(help="load.json of a run.")],
    after: Annotated[Path, typer.Argument(help="load.json of another.")],
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="Exit with status 1 where anything became worse.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two load tests beyond the noise within each."""
    from benchmarks.load.difference import CONFIDENCE, changes, read_report

    found = changes(read_report(before), read_report(after))
    if as_json:
        print(json.dumps([{**asdict(change), "ratio": change.ratio} for change in found], ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("load", "", "before", "after", f"change, {CONFIDENCE:.0%} interval", "verdict")
        for change in found:
            interval = f"{change.ratio - 1:+.1%} [{change.low - 1:+.1%}, {change.high - 1:+.1%}]"
            figures = (f"{change.before:.1f}", f"{change.after:.1f}", interval.replace("[", r"\["))
            table.add_row(change.level, change.quantity, *figures, change.verdict)
        Console().print(table)
    if fail_on_worse and any(change.verdict == "worse" for change in found):
        raise typer.Exit(1)


def numbers(text: str, option: str, *, whole: bool = False) -> list[float]:
    """Return the numbers of a text like 1,4,16.

    Raises:
        UsageError: it is none such, or one is not above 0.
    """
    try:
        found = [float(int(part)) if whole else float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise UsageError(f"{option} {text!r}: expected numbers above 0, separated by commas, as in 1,4,16")
    return found


def _limits(texts: Sequence[str]) -> dict[str, float]:
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if name.strip() not in _LIMIT_NAMES:
                raise ValueError
            limits[f"{name.strip()}_ms"] = float(value)
        except ValueError:
            raise UsageError(
                f"--limit {text!r}: expected ttft=, tpot= or e2e= and milliseconds, as in ttft=500"
            ) from None
    return limits


def _extra(body: str) -> dict[str, object]:
    try:
        extra = json.loads(body)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise UsageError(f"--body {body!r}: expected a JSON object, as in '{{\"ignore_eos\": true}}'")
    return extra
