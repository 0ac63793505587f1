"""What the scripts for a GPU share: steps that may fail, GroundTune's commands with a time limit, the machine's facts.

A step that fails is noted with its error, and the next one begins: on a machine that is lent for minutes, what the
others found is worth having all the same. The JSON is written after every step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT

_TAIL_CHARACTERS = 1500


class StepError(Exception):
    """A command ended with an error, or did not end in time."""


class Steps:
    """The steps of one script and the JSON that they fill; safe to use from several threads."""

    def __init__(self, kind: str, out: Path, packages: Sequence[str]) -> None:
        # For every process that a step starts, however it starts it.
        os.environ.update(environment())
        self._out = out
        self._lock = threading.Lock()
        self.report: dict[str, Any] = {
            "kind": kind,
            "command": " ".join(["python -m", *_command()]),
            **describe_machine(packages),
            "gpu": gpu_name(),
            "steps": {},
            "seconds": {},
        }

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Return what `work` returns, noted under `name`; None where it fails."""
        print(f"== {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            result = work()
            noted = result
        except (Exception, SystemExit) as error:  # whatever it is, the steps after it are to run
            traceback.print_exc()
            result, noted = None, {"error": f"{type(error).__name__}: {error}"[:2000]}
        seconds = time.monotonic() - started
        print(f"== {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        with self._lock:
            self.report["steps"][name] = noted
            self.report["seconds"][name] = round(seconds, 1)
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._out.write_text(json.dumps(self.report, indent=1, ensure_ascii=False), encoding="utf-8")
        return result

    @property
    def status(self) -> int:
        """0 where no step failed."""
        steps = self.report["steps"].values()
        return int(any(isinstance(step, dict) and "error" in step for step in steps))


def groundtune(arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Run `groundtune ARGUMENTS --json`; returns what it prints as JSON.

    Raises:
        StepError: it fails, or takes longer; with the end of what it wrote.
    """
    command = [sys.executable, "-m", "serving.cli", *arguments, "--json"]
    shown = "groundtune " + " ".join(arguments[:4])
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=ROOT,
        )
    except subprocess.TimeoutExpired as error:
        raise StepError(f"{shown}: more than {timeout_s:g} s") from error
    print(done.stderr[-_TAIL_CHARACTERS:], file=sys.stderr, flush=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not lines:
        raise StepError(f"{shown}: status {done.returncode}: {done.stderr[-_TAIL_CHARACTERS:]}")
    facts: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return {**facts, "status": done.returncode} if done.returncode else facts


def environment() -> dict[str, str]:
    """Return this process's environment for a child that runs from anywhere and downloads nothing."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}


def settings(values: dict[str, Any]) -> list[str]:
    """Return `--set` arguments; values as JSON, which YAML reads."""
    return [
        word
        for name, value in values.items()
        for word in ("--set", f"{name}={json.dumps(value, ensure_ascii=False)}")
    ]


def serving_settings(engine: str, device: str, cache_share: float) -> dict[str, Any]:
    """Return the settings of a run that is indexed and served on this machine.

    `cache_share`: of the GPU's free memory, for the key-value caches of the run's engines together.
    """
    chosen: dict[str, Any] = {"serve.engine": engine, "index.device": device}
    if engine == "lmdeploy":
        chosen |= {
            "serve.lmdeploy.cache_max_entry_count": cache_share,
            "serve.lmdeploy.session_len": 8192,
            "serve.max_running": 128,
            "serve.max_waiting": 512,
            "serve.max_requests": 1024,
        }
    if device == "cuda":
        chosen |= {"index.batch_size": 128, "index.precision": "bfloat16"}
    return chosen


def device_name() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_name() -> str:
    """Return the first GPU's name, or `none`; without torch, which would count as a measured child's memory."""
    command = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "none"
    return found.strip().splitlines()[0] if found.strip() else "none"


def _command() -> list[str]:
    path = Path(sys.argv[0]).resolve()
    name = (
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        if ROOT in path.parents
        else path.name
    )
    return [name, *sys.argv[1:]]
