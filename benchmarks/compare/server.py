"""The run's own server: found where it is up, started for the comparison where it is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import GroundTuneError
from data.workspace import Run
from serving.quickstart.steps import running
from serving.state import running_url

_START_TIMEOUT_S = 300.0


@contextmanager
def run_server(run: Run) -> Iterator[str]:
    """Yield the URL of the run's API; one that was started here is stopped at the end.

    Raises:
        GroundTuneError: it does not start.
    """
    url = running_url(run)
    if url is not None:
        yield url
        return
    print(f"no server of run {run.name!r} is up: starting one for this comparison", file=sys.stderr)
    with running(("serve", "--name", run.name, "--port", "0")) as process:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while (url := running_url(run)) is None:
            if process.poll() is not None:
                raise GroundTuneError("the server did not start; its message is above")
            if time.monotonic() > deadline:
                raise GroundTuneError(
                    f"the server was not ready within {_START_TIMEOUT_S:g} s; see {run.logs}"
                )
            time.sleep(0.1)
        yield url
