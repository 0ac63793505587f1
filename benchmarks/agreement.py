"""Whether `bench load` and an independent tool, GuideLLM, say the same of one server in the same run.

    python -m benchmarks.agreement --guidellm ENV/bin/guidellm [--model FOLDER] [--concurrency 1,4]

Starts `transformers serve` once and GroundTune's gateway in front of it. Both tools put the same questions of the
sample workbook to both, in turns (ours, theirs, theirs, ours), so that what else the machine does meets both alike;
a first turn of each counts for nothing. The engine has cores of its own: GuideLLM's several processes would take
them from it, and the server that it measures would be a slower one than ours.

Their bodies are compared field by field. TPOT is GuideLLM's inter-token
latency: its own "time per output token" counts the first token's wait in. Result: benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load
from benchmarks.local_services import listening
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT
from data.artefacts import write_json
from data.errors import GroundTuneError, UsageError
from data.row_source import RowSource, read_rows
from serving.engines.ports import free_ports
from serving.engines.transformers_serve import TransformersSettings, transformers_engine

RESULT = Path(__file__).parent / "results" / "agreement.json"
WITHIN = 0.05
_PACKAGES = ("torch", "transformers", "numpy", "httptools", "uvicorn", "fastapi")
_TURNS = ("groundtune", "guidellm", "guidellm", "groundtune")


@dataclass
class Measured:
    """What one tool measured over its turns: each request's times in ms, all tokens, and the time they took."""

    ttft_ms: list[float] = field(default_factory=list)
    tpot_ms: list[float] = field(default_factory=list)
    tokens: float = 0.0
    num_requests: int = 0
    duration_s: float = 0.0

    def add(self, other: Measured) -> None:
        """Count another turn in."""
        self.ttft_ms += other.ttft_ms
        self.tpot_ms += other.tpot_ms
        self.tokens += other.tokens
        self.num_requests += other.num_requests
        self.duration_s += other.duration_s

    def figures(self) -> dict[str, float]:
        """Return what the tools are compared by."""
        return {
            "requests": self.num_requests,
            "requests_per_s": round(self.num_requests / self.duration_s, 3),
            "output_tokens_per_s": round(self.tokens / self.duration_s, 2),
            "ttft_p50_ms": round(float(np.median(self.ttft_ms)), 2),
            "tpot_p50_ms": round(float(np.median(self.tpot_ms)), 2),
        }


@dataclass(frozen=True)
class Target:
    """A server under load: `url` with /v1, `model` as it is asked for."""

    name: str
    url: str
    model: str


@dataclass(frozen=True)
class Plan:
    """What each tool sends in each turn."""

    questions: Sequence[str]
    max_tokens: int
    guidellm: Path


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--guidellm", type=Path, required=True, help="its program, in an environment of its own"
    )
    models = Path(os.environ.get("GROUNDTUNE_VAR", "var")) / "models"
    parser.add_argument("--model", type=Path, default=models / "qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--concurrency", default="1,4")
    parser.add_argument("--requests", type=int, default=16, help="of each turn")
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = read_rows(RowSource(ROOT / "data" / "知识库内容.xlsx"))
    plan = Plan([row.question for row in rows[: options.requests]], options.max_tokens, options.guidellm)
    levels = [int(number) for number in options.concurrency.split(",")]
    runs = []
    with _servers(options.model.resolve()) as targets:
        for target in targets:
            for concurrency in levels:
                runs.append(_measure(plan, target, concurrency))
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    result = {
        "benchmark": "agreement",
        **describe_machine(_PACKAGES),
        "guidellm": _version(options.guidellm),
        "command": f"python -m benchmarks.agreement {shlex.join(_without_paths(sys.argv[1:]))}",
        "model": options.model.name,
        "settings": {
            "requests_a_turn": len(plan.questions),
            "turns": _TURNS,
            "max_tokens": plan.max_tokens,
            "within": WITHIN,
        },
        "runs": runs,
        "largest_difference": max(abs(value) for run in runs for value in run["difference"].values()),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


def _measure(plan: Plan, target: Target, concurrency: int) -> dict[str, Any]:
    """Measure one server at one load by both tools."""
    measured = {name: Measured() for name in set(_TURNS)}
    bodies: dict[str, Any] = {}
    turns: list[dict[str, Any]] = []
    for turn, name in enumerate(("groundtune", "guidellm", *_TURNS)):
        of_turn = Measured()
        print(f"{target.name}, {concurrency} at once: {name}", file=sys.stderr, flush=True)
        bodies[name] = (_ours if name == "groundtune" else _theirs)(plan, target, concurrency, of_turn)
        if turn >= len(measured):
            measured[name].add(of_turn)
            turns.append({"tool": name, **of_turn.figures()})
    if bodies["groundtune"] != bodies["guidellm"]:
        raise GroundTuneError(f"the tools did not ask the same: {json.dumps(bodies, ensure_ascii=False)}")
    ours, theirs = (measured[name].figures() for name in ("groundtune", "guidellm"))
    return {
        "target": target.name,
        "concurrency": concurrency,
        "groundtune": ours,
        "guidellm": theirs,
        "turns": turns,
        "difference": {
            name: round(ours[name] / theirs[name] - 1, 4)
            for name in ("requests_per_s", "output_tokens_per_s", "ttft_p50_ms", "tpot_p50_ms")
        },
        "body": {**bodies["groundtune"], "messages": "the same in both"},
    }


def _ours(plan: Plan, target: Target, concurrency: int, into: Measured) -> dict[str, Any]:
    settings = RequestSettings(target.model, plan.max_tokens)
    level = Level(len(plan.questions), concurrency=concurrency)
    load = LoadPlan(url=target.url, settings=settings, levels=(level,), num_warmup=0)
    (found,) = run_load(load, plan.questions, None)["levels"]
    if found["figures"]["num_failed"]:
        raise GroundTuneError(f"{target.url}: {found['figures']['errors']}")
    into.ttft_ms += [request["ttft_ms"] for request in found["requests"]]
    into.tpot_ms += [request["tpot_ms"] for request in found["requests"]]
    into.tokens += sum(request["tokens"] for request in found["requests"])
    into.num_requests += len(found["requests"])
    into.duration_s += found["figures"]["duration_s"]
    return _compared(
        {
            "model": target.model,
            "max_tokens": plan.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        plan.questions,
    )


def _theirs(plan: Plan, target: Target, concurrency: int, into: Measured) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "questions.jsonl", Path(folder) / "report.json"
        # With `messages` it sends a plain string as we do, with `prompt` a list of parts.
        lines = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in plan.questions]
        data.write_text("\n".join(lines), encoding="utf-8")
        body = {
            "max_tokens": plan.max_tokens,
            "temperature": 0,
            # Its `continuous_usage_stats` is an extension of vLLM.
            "stream_options": {"include_usage": True, "continuous_usage_stats": None},
        }
        spec = {
            "backend": {
                "kind": "openai_http",
                "target": target.url,
                "model": target.model,
                "http2": False,
                "validate_backend": False,
                "extras": {"body": body},
            },
            "profile": {"kind": "concurrent", "streams": [concurrency]},
            "constraints": [{"kind": "max_requests", "count": len(plan.questions)}],
            "data": [{"kind": "json_file", "path": str(data)}],
            "outputs": [{"kind": "json", "path": str(report)}],
        }
        scenario = Path(folder) / "scenario.json"
        scenario.write_text(json.dumps({"spec": spec}), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        argv = [str(plan.guidellm), "run", "-c", str(scenario), "--disable-console"]
        done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode or not report.is_file():
            raise GroundTuneError(f"guidellm: {done.stderr[-2000:]}")
        (found,) = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    requests = found["requests"]["successful"]
    if len(requests) != len(plan.questions) or found["requests"]["errored"]:
        raise GroundTuneError(f"guidellm: {len(requests)} of {len(plan.questions)} requests were answered")
    into.ttft_ms += [request["time_to_first_token_ms"] for request in requests]
    into.tpot_ms += [request["inter_token_latency_ms"] for request in requests]
    into.tokens += sum(request["output_tokens"] for request in requests)
    into.num_requests += len(requests)
    times = found["scheduler_metrics"]
    into.duration_s += times["measure_end_time"] - times["measure_start_time"]
    bodies = [json.loads(request["request_args"])["body"] for request in requests]
    asked = [message["content"] for one in bodies for message in one.pop("messages")]
    if any(one != bodies[0] for one in bodies):
        raise GroundTuneError(f"guidellm: its requests differ: {bodies}")
    return _compared(bodies[0], asked)


def _compared(body: dict[str, Any], questions: Sequence[str]) -> dict[str, Any]:
    """Return what was asked in a form that equals another tool's: the order of questions and fields is its own."""
    return {**dict(sorted(body.items())), "messages": sorted(questions)}


@contextlib.contextmanager
def _servers(model: Path) -> Iterator[list[Target]]:
    """Yield the engine alone and the gateway in front of it."""
    ports = free_ports(2)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UsageError("two cores are needed: one for the engine, one for what puts load on it")
    of_engine = set(cores[: len(cores) // 2])
    os.sched_setaffinity(0, set(cores) - of_engine)
    engine, command = transformers_engine(
        "base", model, ports[0], TransformersSettings(threads=len(of_engine))
    )
    argv = ["env", "-C", str(command.folder), *command.argv]
    with listening(argv, ports[0], cores=of_engine, quiet=True, environment=command.environment):
        direct = Target("transformers serve", engine.base_url, engine.model)
        external = f"serve.external.base={json.dumps({'url': engine.base_url, 'model': engine.model})}"
        options = ["--name", "agreement", "--port", str(ports[1]), "--set", external]
        gateway = [sys.executable, "-m", "serving.cli", "serve", *options]
        with (
            tempfile.TemporaryDirectory() as var,
            listening(gateway, ports[1], environment={"GROUNDTUNE_VAR": var}),
        ):
            time.sleep(2.0)
            yield [direct, Target("through the gateway", f"http://127.0.0.1:{ports[1]}/v1", "base")]


def _version(program: Path) -> str:
    code = "from importlib.metadata import version; print(version('guidellm'))"
    argv = [str(program.with_name("python")), "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def _without_paths(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with nothing of this machine's folders in them."""
    return ["ENV/bin/guidellm" if word.endswith("guidellm") else word for word in arguments]


if __name__ == "__main__":
    main()
