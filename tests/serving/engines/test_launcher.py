"""Nothing that an engine started may be left behind, however its parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data import launcher

# Starts a child in a session of its own, out of reach of any process group, writes both ids, and waits.
_FAMILY = """
import os, pathlib, signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
path = pathlib.Path(sys.argv[1])
path.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
path.with_suffix(".new").rename(path)
time.sleep(600)
"""

Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def launch() -> Launch:
    """Starts the launcher with a command."""

    def start(*command: str, grace_s: float = 0.5) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", launcher.__file__, str(grace_s), *command]
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def _family(path: Path) -> list[int]:
    return [int(pid) for pid in _within(lambda: path.is_file() and path.read_text().split(), 10) or ()]


def _within(look: Callable[[], object], timeout_s: float) -> object:
    deadline = time.monotonic() + timeout_s
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


def _gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_exit_status_of_the_command_is_passed_on(launch: Launch) -> None:
    with launch(sys.executable, "-c", "print('out'); raise SystemExit(7)") as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"out\n"
        assert process.wait(10) == 7


def test_death_by_a_signal_is_told_as_shells_do(launch: Launch) -> None:
    with launch(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") as process:
        assert process.wait(10) == 128 + signal.SIGKILL


def test_command_that_cannot_be_started(launch: Launch) -> None:
    with launch("/no/such/engine") as process:
        assert process.stderr is not None
        assert b"/no/such/engine" in process.stderr.read()
        assert process.wait(10) == 127


@pytest.mark.parametrize("temper", ["obedient", "stubborn"])
def test_closing_the_pipe_ends_the_whole_family(launch: Launch, tmp_path: Path, temper: str) -> None:
    path = tmp_path / "family"
    with launch(sys.executable, "-c", _FAMILY, str(path), temper) as process:
        pids = _family(path)
        assert len(pids) == 2
        started = time.monotonic()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        assert time.monotonic() - started < 3
        assert _gone(pids)


def test_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    path = tmp_path / "family"
    script = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-I", "-S", {launcher.__file__!r}, "0.5", sys.executable, "-c",
                  {_FAMILY!r}, {str(path)!r}, "stubborn"], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        pids = _family(path)
        assert len(pids) == 2
        parent.kill()
        parent.wait(10)
    assert _within(lambda: _gone(pids), 5)


def test_killed_launcher_takes_its_command_along(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "family"
    with launch(sys.executable, "-c", _FAMILY, str(path), "stubborn") as process:
        engine, grandchild = _family(path)
        process.kill()
        process.wait(10)
    assert _within(lambda: _gone([engine]), 5)
    os.kill(grandchild, signal.SIGKILL)
