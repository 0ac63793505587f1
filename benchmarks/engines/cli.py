"""`groundtune bench engines`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from data.options import ConfigOption, JsonOption, NameOption, SetOption


def engines(
    names: Annotated[
        str,
        typer.Option("--engines", help="Of transformers, llamacpp, vllm, lmdeploy; auto: each that can run."),
    ] = "auto",
    model: Annotated[
        str | None, typer.Option(help="A fetched model's name or a folder; default: the run's base model.")
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Requests under way; one level each.")] = "1,4,16",
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests a level; default: 3 x concurrency, at least 8.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Longest answer.")] = 64,
    vllm: Annotated[Path | None, typer.Option(help="vLLM's program, where it is not on the PATH.")] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON Lines with `question`, or a workbook; default: the run's held-out ones."),
    ] = None,
    name: NameOption = "quickstart",
    config: ConfigOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The result's file; its picture is beside it. Default: var/bench/engines.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put the same load on each engine that this machine can run, one after the other."""
    from benchmarks.engines.chart import draw_engines
    from benchmarks.engines.flow import EnginesPlan, run_engines
    from benchmarks.engines.found import Wanted, find_engines
    from benchmarks.load.cli import numbers
    from benchmarks.load.prompts import read_questions
    from data.artefacts import write_json
    from data.config import section, settle_config
    from data.models.config import ModelsConfig
    from data.models.folder import resolve_model
    from data.workspace import open_workspace
    from serving.settings import ServeSection

    workspace = open_workspace()
    run = workspace.run(name)
    raw = settle_config(run, config, settings or ())
    folder = resolve_model(workspace, model or section(raw, "models", ModelsConfig).base).resolve()
    levels = [int(number) for number in numbers(concurrency, "--concurrency", whole=True)]
    serve = section(raw, "serve", ServeSection)
    wanted = Wanted(folder, serve, max(levels), vllm.absolute() if vllm else None)
    found, missing = find_engines(wanted, names)
    plan = EnginesPlan(
        questions=read_questions(questions or run.dataset / "paraphrases.jsonl"),
        concurrency=levels,
        max_tokens=max_tokens,
        requests=requests,
        tokenizer=folder,
        start_timeout_s=serve.start_timeout_s,
    )
    result = {
        **run_engines(plan, found),
        "model": folder.name,
        "missing": missing,
        "command": shlex.join(["groundtune", *sys.argv[1:]]),
    }
    path = out or workspace.root / "bench" / "engines.json"
    write_json(path, result)
    draw_engines(result, path.with_suffix(".png"))
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print(result)
        print(f"result: {path}")


def _print(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head = ("engine", "load", "requests", "failed", "tokens/s", "TTFT p50 / p99 (ms)", "TPOT p50 (ms)")
    table = Table(*head, title=result["model"], title_justify="left")
    for name, found in result["engines"].items():
        for level in found["levels"]:
            ttft, tpot = level["ttft_ms"], level["tpot_ms"]
            table.add_row(
                f"{name} {found['version']}",
                level["label"],
                str(level["num_requests"]),
                str(level["num_failed"]),
                f"{level['output_tokens_per_s']:.1f}",
                f"{ttft['p50']:.0f} / {ttft['p99']:.0f}" if ttft else "–",
                f"{tpot['p50']:.1f}" if tpot else "–",
            )
    console = Console()
    console.print(table)
    for name, reason in {**result["missing"], **result["failed"]}.items():
        console.print(f"{name}: not measured: {escape(reason)}", highlight=False)
