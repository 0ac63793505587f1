"""Runs the comparison: the upstream alone, GroundTune's gateway and LiteLLM's proxy, each on the same core in turn.

The gateway under test has one core to itself; this generator and the upstream share another.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gateway.measuring import as_json, latency_ms, percentiles, steps, throughput
from benchmarks.local_services import listening
from benchmarks.machine import describe_machine
from data.errors import UsageError
from serving.engines.ports import free_ports

UPSTREAM, OURS, THEIRS = "upstream alone", "groundtune", "litellm"
_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "pydantic")
_TOKENS_SHORT, _TOKENS_LONG = 4, 200
_CONCURRENCY = 16
_RATE = 100.0
_TURNS = 2
_STEP_MS = 50.0
_STREAMS = (32, 128, 256)
# LiteLLM's proxy passes fewer events on than more streams have.
_STREAMS_THEIRS = (32,)


@dataclass(frozen=True)
class GatewayPlan:
    """How much is asked.

    Attributes:
        litellm: LiteLLM's program, in an environment of its own; None leaves it out.
        seconds: Of each measurement of latency.
        num_ours: Requests of each measurement of throughput of GroundTune's gateway.
        num_theirs: The same of LiteLLM's proxy, which is slower.
    """

    litellm: Path | None
    seconds: float = 10.0
    num_ours: int = 6000
    num_theirs: int = 1000


def run_gateways(plan: GatewayPlan) -> dict[str, Any]:
    """Measure; returns the result, a JSON-like value.

    Raises:
        UsageError: this machine has one core only.
        GroundTuneError: a system did not start, or did not answer in full.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UsageError("bench gateway needs two cores: one for the gateway, one for the load on it")
    theirs, ours = {cores[0]}, set(cores[1:2])
    os.sched_setaffinity(0, ours)
    try:
        systems: dict[str, dict[str, Any]] = {}
        for tokens in (_TOKENS_SHORT, _TOKENS_LONG):
            with _upstream("instant", ours, "--tokens", str(tokens)) as (url, pid):
                if tokens == _TOKENS_SHORT:
                    _measure_short(plan, systems, url, pid, theirs)
                else:
                    _measure_events(plan, systems, url, pid, theirs)
        with _upstream("stepping", ours, "--step-ms", f"{_STEP_MS:g}") as (url, pid):
            _measure_steps(plan, systems, url, pid, theirs)
    finally:
        os.sched_setaffinity(0, set(cores))
    for system in systems.values():
        for kind in ("whole", "streamed"):
            added = {
                part: round(system["latency_ms"][kind][part] - systems[UPSTREAM]["latency_ms"][kind][part], 3)
                for part in ("p50", "p90", "p99")
            }
            system.setdefault("added_ms", {})[kind] = added
        for width, found in system["steps"].items():
            alone = systems[UPSTREAM]["steps"][width]
            for kind in ("first_ms", "next_ms"):
                found[f"added_{kind}"] = {
                    part: round(found[kind][part] - alone[kind][part], 3) for part in alone[kind]
                }
    return {
        "benchmark": "gateway",
        **describe_machine(_PACKAGES),
        "litellm": _litellm_version(plan.litellm),
        "command": "groundtune bench gateway --litellm ENV/bin/litellm",
        "settings": {
            "concurrency": _CONCURRENCY,
            "rate": _RATE,
            "tokens": {"short": _TOKENS_SHORT, "long": _TOKENS_LONG},
            "step_ms": _STEP_MS,
            "turns": _TURNS,
        },
        "systems": systems,
        "times_litellm": _times(systems),
    }


def _measure_short(
    plan: GatewayPlan, systems: dict[str, dict[str, Any]], upstream: str, pid: int, core: set[int]
) -> None:
    """Requests a second and latency; latency in turns, so that what else goes on meets all alike."""
    with contextlib.ExitStack() as stack:
        running = {UPSTREAM: (upstream, pid), **_gateways(stack, plan, upstream, core)}
        for name, (url, of_pid) in running.items():
            num = plan.num_theirs if name == THEIRS else plan.num_ours
            _tell(f"{name}: throughput")
            systems[name] = {
                "throughput": {
                    kind: as_json(
                        throughput(url, of_pid, num=num, concurrency=_CONCURRENCY, stream=kind == "streamed")
                    )
                    for kind in ("whole", "streamed")
                }
            }
        times: dict[str, dict[str, list[float]]] = {name: {"whole": [], "streamed": []} for name in running}
        for turn in range(_TURNS):
            for name, (url, _) in running.items():
                for kind in ("whole", "streamed"):
                    _tell(f"{name}: latency, {kind}, {turn + 1} of {_TURNS}")
                    times[name][kind] += latency_ms(
                        url,
                        rate=_RATE,
                        seconds=plan.seconds / _TURNS,
                        stream=kind == "streamed",
                        seed=turn,
                    )
        for name, by_kind in times.items():
            systems[name]["latency_ms"] = {kind: percentiles(values) for kind, values in by_kind.items()}


def _measure_events(
    plan: GatewayPlan, systems: dict[str, dict[str, Any]], upstream: str, pid: int, core: set[int]
) -> None:
    with contextlib.ExitStack() as stack:
        running = {UPSTREAM: (upstream, pid), **_gateways(stack, plan, upstream, core)}
        for name, (url, of_pid) in running.items():
            num = (plan.num_theirs if name == THEIRS else plan.num_ours) // 20
            _tell(f"{name}: events")
            found = throughput(url, of_pid, num=num, concurrency=_CONCURRENCY, stream=True)
            systems[name]["events_per_s"] = round(found.per_second * _TOKENS_LONG)


def _measure_steps(
    plan: GatewayPlan, systems: dict[str, dict[str, Any]], upstream: str, pid: int, core: set[int]
) -> None:
    with contextlib.ExitStack() as stack:
        running = {UPSTREAM: (upstream, pid), **_gateways(stack, plan, upstream, core)}
        for name, (url, of_pid) in running.items():
            systems[name]["steps"] = {}
            for width in _STREAMS_THEIRS if name == THEIRS else _STREAMS:
                _tell(f"{name}: {width} streams")
                systems[name]["steps"][str(width)] = asdict(steps(url, of_pid, num_streams=width))


def _gateways(
    stack: contextlib.ExitStack, plan: GatewayPlan, upstream: str, core: set[int]
) -> dict[str, tuple[str, int]]:
    found = {OURS: stack.enter_context(_ours(upstream, core))}
    if plan.litellm is not None:
        found[THEIRS] = stack.enter_context(_litellm(plan.litellm, upstream, core))
    return found


@contextlib.contextmanager
def _upstream(kind: str, core: set[int], *options: str) -> Iterator[tuple[str, int]]:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", f"benchmarks.gateway.{kind}", str(port), *options]
    with listening(argv, port, cores=core) as process:
        yield f"http://127.0.0.1:{port}/v1", process.pid


@contextlib.contextmanager
def _ours(upstream: str, core: set[int]) -> Iterator[tuple[str, int]]:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "benchmarks.gateway.served", str(port), upstream]
    with listening(argv, port, cores=core) as process:
        time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", process.pid


@contextlib.contextmanager
def _litellm(program: Path, upstream: str, core: set[int]) -> Iterator[tuple[str, int]]:
    """Run LiteLLM's proxy as its documentation does for one model; no keys, as ours has none here."""
    (port,) = free_ports(1)
    model = {"model": "openai/m", "api_base": upstream, "api_key": "none"}
    config = {"model_list": [{"model_name": "base", "litellm_params": model}]}
    quiet = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        argv = [str(program), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--telemetry", "False", "--num_workers", "1"]
        with listening(argv, port, cores=core, quiet=True, environment=quiet) as process:
            time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", process.pid


def _litellm_version(program: Path | None) -> str:
    if program is None:
        return "not measured"
    code = "from importlib.metadata import version; print(version('litellm'))"
    done = subprocess.run(
        [str(program.with_name("python")), "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _times(systems: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    if THEIRS not in systems:
        return None
    ours, theirs = systems[OURS], systems[THEIRS]
    of_requests = {
        f"requests, {kind}": ours["throughput"][kind]["per_second"] / theirs["throughput"][kind]["per_second"]
        for kind in ("whole", "streamed")
    }
    of_all = {**of_requests, "events": ours["events_per_s"] / theirs["events_per_s"]}
    return {name: round(value, 1) for name, value in of_all.items()}


def _tell(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)
