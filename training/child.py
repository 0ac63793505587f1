"""One child process of a training step, its output in a log, gone when this process is gone.

It runs under data/launcher.py, which ends the child and everything it started when this process ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data import launcher
from data.errors import GroundTuneError

_GRACE_S = 3.0
_STOP_S = 15.0
_POLL_S = 0.2
_LOG_LINES = 15


def run_child(
    name: str,
    argv: Sequence[str],
    log: Path,
    folder: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a command to its end in `folder`, its output appended to `log`; `on_line` is told each line of it.

    Raises:
        GroundTuneError: it failed; carries the log's last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, log.open("rb") as written:
        written.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", launcher.__file__, str(_GRACE_S), *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        rest = b""
        try:
            ended = False
            while not ended:
                ended = child.poll() is not None
                *lines, rest = (rest + written.read()).split(b"\n")
                for line in lines:
                    on_line(line.decode("utf-8", "replace"))
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            _stop(child)
    if child.returncode != 0:
        raise GroundTuneError(failure(name, f"ended with status {child.returncode}", log))


def failure(name: str, what: str, log: Path) -> str:
    """Return the text of an error: what failed, and the log's last lines."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [f"  {line}" for line in text.splitlines()[-_LOG_LINES:]]
    return "\n".join([f"{name} {what}; last lines of {log}:", *(lines or ["  (empty)"])])


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
