"""`groundtune serve` as a process of its own, for tests, and the processes it starts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Served:
    """A running `groundtune serve` and where it works."""

    process: subprocess.Popen[str]
    url: str
    run_folder: Path

    @property
    def family(self) -> list[int]:
        """The ids of the server and everything it started."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += [int(child) for child in children.split()]
        return found


def serve_command(*arguments: str) -> list[str]:
    """The command line of a server for the run `r` on a free port."""
    return [sys.executable, "-m", "serving.cli", "serve", "--name", "r", "--port", "0", *arguments]


@contextlib.contextmanager
def serving(root: Path, *arguments: str) -> Iterator[Served]:
    """Start a server over the var/ folder `root`, wait until it is ready, and kill it at the end."""
    environment = {**os.environ, "GROUNDTUNE_VAR": str(root)}
    state = root / "runs" / "r" / "serve.json"
    state.unlink(missing_ok=True)
    with subprocess.Popen(
        serve_command(*arguments), env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 300
            while not state.is_file():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    assert process.stderr is not None
                    pytest.fail(f"serve did not come up: {process.stderr.read()}")
                time.sleep(0.1)
            yield Served(process, json.loads(state.read_text())["url"], state.parent)
        finally:
            process.kill()


def command_line_of(pid: int) -> list[bytes]:
    """The words of a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def gone_within(pids: list[int], timeout_s: float) -> bool:
    """Wait for processes to end; False if one is alive after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while alive := [pid for pid in pids if _alive(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return not alive


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
