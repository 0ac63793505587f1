"""The processes that a measurement of serving talks to: up before it begins, gone after it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.gpu.steps import environment
from benchmarks.processes import ROOT
from serving.engines.ports import free_ports


@contextmanager
def gateway(work: Path, url: str, model: str) -> Iterator[str]:
    """Run GroundTune's gateway in front of a server; yields its URL."""
    (port,) = free_ports(1)
    external = json.dumps({name: {"url": url, "model": model} for name in ("base", "tuned")})
    command = [
        *(sys.executable, "-m", "serving.cli", "serve", "--name", "gpu", "--port", str(port)),
        *("--set", f"serve.external={external}", "--set", "serve.max_running=512"),
        *("--set", "serve.max_requests=1024"),
        # The prompts have their instructions; a second set would make them longer than those sent directly.
        *("--set", "prepare.system_prompt=''"),
    ]
    with running(command, work / "gateway.log", f"http://127.0.0.1:{port}/v1/models"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def relay(work: Path, url: str) -> Iterator[str]:
    """Run a relay that only copies bytes, and notes when (benchmarks.gpu.relay), in front of a local server.

    Yields its URL.
    """
    (port,) = free_ports(1)
    engine_port = urlsplit(url).port
    command = [sys.executable, "-m", "benchmarks.gpu.relay", str(port), str(engine_port)]
    with running(command, work / "relay.log", f"http://127.0.0.1:{port}/v1/models"):
        yield f"http://127.0.0.1:{port}/v1"


def relay_notes(url: str) -> list[dict[str, Any]]:
    """Return what the relay at that URL has noted since it was last asked."""
    parts = urlsplit(url)
    with urllib.request.urlopen(f"http://{parts.netloc}/notes", timeout=30) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    return found


@contextmanager
def running(command: Sequence[str], log: Path, ready: str) -> Iterator[None]:
    """Keep a process running during the block, which begins when the URL `ready` answers; it prints to `log`."""
    with log.open("wb") as out:
        running = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment())
    try:
        deadline = time.monotonic() + 180
        while not _answers(ready):
            if running.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise RuntimeError(f"{command[2]} is not up (status {running.poll()}): {tail}")
            time.sleep(0.5)
        yield
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
