"""Running one measured process to its end. Standard library only.

A child's peak memory begins with its parent's, so a script that measures must import nothing large itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_measured(
    command: Sequence[str], title: str, more_environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Run `command` with its stdout discarded; returns `wall_s` and `peak_rss_bytes`, the kernel's own counts.

    The peak is that of the largest process, where the command starts others and waits for them.

    Raises:
        SystemExit: it failed; its own message is on stderr.
    """
    print(f"{title} ...", file=sys.stderr, flush=True)
    started = time.perf_counter()
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths, **(more_environment or {})}
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], list(command), environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - started
    if status:
        sys.exit(f"{title}: ended with status {os.waitstatus_to_exitcode(status)}")
    # ru_maxrss is in kilobytes on Linux.
    return {"wall_s": round(wall_s, 2), "peak_rss_bytes": usage.ru_maxrss * 1024}
