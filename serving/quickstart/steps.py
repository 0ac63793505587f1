"""Running the steps as commands of their own, one after the other.

Each step is a separate `groundtune` process: it frees its memory when it ends, works the same when typed by
hand, and dies with this process, however that ends (data.launcher).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data import launcher
from data.errors import GroundTuneError, UsageError

_LAUNCHER = Path(launcher.__file__)
_GRACE_S = 3.0
_STOP_S = 15.0


@dataclass(frozen=True)
class StepResult:
    """A finished step: its command line, seconds taken, and its closing line."""

    name: str
    command: str
    seconds: float
    outcome: str


def run_step(name: str, arguments: Sequence[str]) -> StepResult:
    """Run `groundtune ARGUMENTS` to its end; its progress goes to stderr.

    Raises:
        GroundTuneError: the step failed; it has already said why.
        UsageError: the same with exit status 2.
    """
    started = time.monotonic()
    with _launched(arguments, subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        status = process.wait()
    if status != 0:
        kind = UsageError if status == UsageError.exit_status else GroundTuneError
        raise kind(f"step {name!r} failed (exit status {status}); its message is above")
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    command = "groundtune " + " ".join(arguments)
    return StepResult(name, command, round(time.monotonic() - started, 1), lines[-1] if lines else "")


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Keep `groundtune ARGUMENTS` running during the block; stopped, with all its children, at the end."""
    with _launched(arguments, None) as process:
        yield process


@contextmanager
def _launched(arguments: Sequence[str], stdout: int | None) -> Iterator[subprocess.Popen[bytes]]:
    argv = [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(_GRACE_S),
        sys.executable,
        "-m",
        "serving.cli",
        *arguments,
    ]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=stdout or sys.stderr, start_new_session=True
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
