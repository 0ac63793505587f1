"""Starts one engine after the other, puts the same load on each, and notes what it took."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines.found import Found
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load
from benchmarks.load.tokens import TokenCounter
from benchmarks.machine import describe_machine
from data.errors import GroundTuneError
from serving.engines.client import engine_client
from serving.engines.engine import Engine
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines

_PACKAGES = ("torch", "transformers", "numpy", "httptools")
_FEWEST = 8
_WAVES = 3


@dataclass(frozen=True)
class EnginesPlan:
    """What every engine is asked: `requests` a level, None for three times the concurrency and eight at least."""

    questions: Sequence[str]
    concurrency: Sequence[int]
    max_tokens: int
    requests: int | None
    tokenizer: Path
    start_timeout_s: float
    seed: int = 0


def run_engines(plan: EnginesPlan, engines: Sequence[Found]) -> dict[str, Any]:
    """Measure each engine; one that does not start is noted with its error, and the others are measured.

    Raises:
        GroundTuneError: none of them could be measured; says why each could not.
    """
    counter = TokenCounter(plan.tokenizer)
    measured: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for found in engines:
        try:
            measured[found.name] = _measure(plan, found, counter)
        except GroundTuneError as error:
            failed[found.name] = str(error)
            print(f"{found.name}: {error}", file=sys.stderr)
    if not measured:
        raise GroundTuneError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    return {
        "benchmark": "engines",
        **describe_machine(_PACKAGES),
        "settings": {
            "concurrency": list(plan.concurrency),
            "max_tokens": plan.max_tokens,
            "seed": plan.seed,
        },
        "engines": measured,
        "failed": failed,
    }


def _measure(plan: EnginesPlan, found: Found, counter: TokenCounter) -> dict[str, Any]:
    (port,) = free_ports(1)
    engine, command = found.start(port)
    with tempfile.TemporaryDirectory() as folder:
        process = EngineProcess(engine, command, Path(folder) / f"{found.name}.log")
        print(f"{found.name}: starting", file=sys.stderr, flush=True)
        started = time.monotonic()
        asyncio.run(_start(process, plan.start_timeout_s))
        start_s = time.monotonic() - started
        try:
            report = run_load(_load(plan, engine), plan.questions, counter)
            memory = _memory_bytes(process)
        finally:
            stop_engines([process])
    return {
        "version": found.version,
        "weights": found.weights,
        "start_s": round(start_s, 1),
        "memory_bytes": memory,
        "levels": [
            {"concurrency": level["concurrency"], "label": level["label"], **level["figures"]}
            for level in report["levels"]
        ],
    }


def _load(plan: EnginesPlan, engine: Engine) -> LoadPlan:
    levels = [
        Level(plan.requests or max(_FEWEST, _WAVES * number), concurrency=number)
        for number in plan.concurrency
    ]
    return LoadPlan(
        url=engine.base_url,
        settings=RequestSettings(engine.model, plan.max_tokens, engine.api_key),
        levels=tuple(levels),
        seed=plan.seed,
    )


async def _start(process: EngineProcess, timeout_s: float) -> None:
    async with engine_client() as client:
        await start_engines([process], client, timeout_s)


def _memory_bytes(process: EngineProcess) -> int | None:
    """Return the resident memory of the engine and all that it started; None where it cannot be read."""
    if process.pid is None:
        return None
    family, total = [process.pid], 0
    try:
        for pid in family:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
            family += [int(child) for child in children.split()]
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
            total += sum(int(line.split()[1]) * 1024 for line in lines)
    except (OSError, ValueError, IndexError):
        return None
    return total
