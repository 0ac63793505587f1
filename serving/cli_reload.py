"""`groundtune serve reload`: the models and the index that a run has now, taken up by its running server."""

from __future__ import annotations

import os
import signal
import time
from typing import Annotated

import typer

from data.errors import GroundTuneError

_POLL_S = 0.1


def reload(
    name: Annotated[str, typer.Option("--name", help="The run whose server to reload.")] = "quickstart",
    timeout_s: Annotated[float, typer.Option("--timeout", help="Longest wait, in seconds.")] = 600.0,
) -> None:
    """Serve what the run has now, without an interruption: a new merged model, another version of the index.

    The new is started beside the old, so that there must be memory for both. Where it does not start, the old
    goes on.
    """
    from data.workspace import open_workspace
    from serving.state import last_reload, running_pid

    run = open_workspace().run(name)
    pid = running_pid(run)
    if pid is None:
        raise GroundTuneError(
            f"run {name!r}: no server is up; start it with `groundtune serve --name {name}`"
        )
    before = last_reload(run).number
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + timeout_s
    while (outcome := last_reload(run)).number == before:
        if running_pid(run) is None:
            raise GroundTuneError(f"run {name!r}: the server ended while it reloaded; see its output")
        if time.monotonic() > deadline:
            raise GroundTuneError(f"run {name!r}: not reloaded within {timeout_s:g} s; its output tells why")
        time.sleep(_POLL_S)
    if not outcome.is_done:
        raise GroundTuneError(outcome.message)
    print(outcome.message)
