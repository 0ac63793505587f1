"""Runs one command several times side by side, as the processes of one node that train together.

    python -m training.ranks NUM_PROCESSES FIRST_RANK LOG_FOLDER COMMAND...

Each gets its number in RANK and LOCAL_RANK; the rest of what they need to meet (WORLD_SIZE, MASTER_ADDR ...) is in
the environment. The first one's output is this process's own, that of the others goes to LOG_FOLDER/train.N.log.
When one fails the rest are ended, since they would wait for it, and the last lines of its log are repeated.

Runs under data/launcher.py, which takes all of them down with the process that wants them. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

_GRACE_S = 3.0
_LOG_LINES = 12


def main(argv: list[str]) -> int:
    """Run the command; returns 0, or the exit status of the first that failed."""
    count, first, folder, command = int(argv[0]), int(argv[1]), Path(argv[2]), argv[3:]
    with ExitStack() as stack:
        started: dict[int, int] = {}
        children: dict[int, subprocess.Popen[bytes]] = {}
        for local in range(count):
            output = None if local == 0 else stack.enter_context(log_of(folder, local).open("wb"))
            places = {"RANK": first + local, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": count}
            environment = {**os.environ, **{name: str(value) for name, value in places.items()}}
            child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            started[child.pid], children[local] = local, child
        failed, status = 0, 0
        while started and not status:
            # In the order in which they end: a process that fails because another did comes after it.
            pid, raw = os.wait()
            if pid in started:
                failed = started.pop(pid)
                status = os.waitstatus_to_exitcode(raw)
                children[failed].returncode = status
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end([children[local] for local in started.values()], number)
    if status:
        _tell(folder, first, failed, status)
    return status if status >= 0 else 128 - status


def log_of(folder: Path, local_rank: int) -> Path:
    """Return where a process that is not the node's first writes what it prints."""
    return folder / f"train.{local_rank}.log"


def _end(children: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
    deadline = time.monotonic() + _GRACE_S
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue


def _tell(folder: Path, first: int, local: int, status: int) -> None:
    what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    if local:
        text = log_of(folder, local).read_text(encoding="utf-8", errors="replace")
        print("\n".join(text.splitlines()[-_LOG_LINES:]))
    print(f"process {first + local} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
