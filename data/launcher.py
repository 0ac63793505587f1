"""Runs one command and takes everything that it started down with it.

    python -I -S launcher.py GRACE_S COMMAND...

The launcher stays beside the command for as long as it runs. Its standard input is a pipe whose other end
only the process that wants the command holds: when that process closes the pipe, or is killed in any way at
all, the launcher reads the end of the file, asks every descendant to stop (SIGTERM) and, GRACE_S seconds
later, kills what is left. PR_SET_PDEATHSIG alone would not do: it follows a thread of the parent, not the
parent, and grandchildren do not inherit it. Here it only covers the launcher itself being killed.

Runs as a script of its own, so: standard library only, nothing of this project.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status, or 128 + the signal that ended it."""
    grace_s, command = float(argv[0]), argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A descendant whose own parent ends is handed to the launcher and so stays within its reach.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = _start(command)
    status = None
    while status is None and not _input_ended(_POLL_S):
        status = _reap(child)
    _end_descendants(child, grace_s)
    return 0 if status is None else status


def _start(command: list[str]) -> int:
    launcher = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def _input_ended(timeout_s: float) -> bool:
    readable, _, _ = select.select([0], [], [], timeout_s)
    return bool(readable) and not os.read(0, 4096)


def _reap(child: int) -> int | None:
    """Collect descendants that ended; returns the exit status of `child` if it is one of them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else 128 - code


def _end_descendants(child: int, grace_s: float) -> None:
    started = time.monotonic()
    for pid in _descendants(child):
        _send(pid, signal.SIGTERM)
    while _has_children():
        if time.monotonic() - started >= grace_s:
            for pid in _descendants(child):
                _send(pid, signal.SIGKILL)
        time.sleep(0.02)


def _has_children() -> bool:
    """Tell whether any descendant is left, after collecting those that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants(child: int) -> list[int]:
    """Return the ids of every living process below the launcher."""
    if not Path("/proc/self/stat").exists():
        return [child] if _send(child, 0) else []
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The second field is the command's name in parentheses and may hold anything, ')' included.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
