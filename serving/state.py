"""serve.json in a run's folder: where its server listens, for as long as it is up."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from data.artefacts import write_json
from data.workspace import Run

_NAME = "serve.json"


@contextlib.contextmanager
def announced(run_folder: Path, url: str) -> Iterator[None]:
    """Keep the run's serve.json while the block runs; `url` ends in /v1."""
    path = run_folder / _NAME
    write_json(path, {"url": url, "pid": os.getpid()})
    try:
        yield
    finally:
        # A server started later for the same run has put its own in place.
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
                path.unlink()


def running_url(run: Run) -> str | None:
    """Return the URL of the run's server, or None where none is up."""
    try:
        state = json.loads((run.folder / _NAME).read_text(encoding="utf-8"))
        os.kill(int(state["pid"]), 0)
        return str(state["url"])
    except PermissionError:
        return str(state["url"])  # it lives and belongs to somebody else
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Reload:
    """How the latest reload of a server ended; `number` counts them."""

    number: int
    message: str
    is_done: bool


def note_reload(run_folder: Path, outcome: Reload) -> None:
    """Write the outcome into serve.json, for who asked for it."""
    path = run_folder / _NAME
    with contextlib.suppress(OSError, ValueError):
        write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "reload": asdict(outcome)})


def last_reload(run: Run) -> Reload:
    """Return how the latest reload of the run's server ended; number 0 where there was none."""
    try:
        state = json.loads((run.folder / _NAME).read_text(encoding="utf-8"))
        return Reload(**state["reload"])
    except (OSError, ValueError, KeyError, TypeError):
        return Reload(0, "", False)


def running_pid(run: Run) -> int | None:
    """Return the process id of the run's server, or None where none is up."""
    if running_url(run) is None:
        return None
    return int(json.loads((run.folder / _NAME).read_text(encoding="utf-8"))["pid"])
