"""Scripted engines and gateways as processes of their own, for benchmarks of the gateway alone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.processes import ROOT
from data.errors import GroundTuneError
from serving.engines.ports import free_ports

_START_S = 120.0


@contextlib.contextmanager
def listening(
    argv: Sequence[str],
    port: int,
    *,
    cores: set[int] | None = None,
    quiet: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends, once it takes connections at `port`; `cores` are those that it may use.

    Raises:
        GroundTuneError: it ended, or did not listen within two minutes.
    """
    own = {"PYTHONPATH": str(ROOT)} if argv[0] == sys.executable else {}
    variables = {**os.environ, **own, **(environment or {})}
    if not own:
        variables.pop("PYTHONPATH", None)  # another environment's packages are its own
    output = subprocess.DEVNULL if quiet else sys.stderr.fileno()

    def keep_to_cores() -> None:
        if cores:
            os.sched_setaffinity(0, cores)

    with subprocess.Popen(
        list(argv), cwd=ROOT, env=variables, stdout=output, stderr=output, preexec_fn=keep_to_cores
    ) as process:
        try:
            deadline_s = time.monotonic() + _START_S
            while not _takes_connections(port):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise GroundTuneError(f"{' '.join(argv)}: did not come up at port {port}")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _takes_connections(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def engine_process(*options: str, cores: set[int] | None = None) -> Iterator[str]:
    """Yield the address of a scripted engine (tests.serving.engine_process)."""
    with _module("tests.serving.engine_process", (), options, cores) as url:
        yield url


@contextlib.contextmanager
def gateway_process(engine_url: str, *options: str, cores: set[int] | None = None) -> Iterator[str]:
    """Yield the address of a gateway in front of that engine (tests.serving.gateway_process)."""
    with _module("tests.serving.gateway_process", (engine_url,), options, cores) as url:
        yield url


@contextlib.contextmanager
def _module(
    module: str, arguments: Sequence[str], options: Sequence[str], cores: set[int] | None
) -> Iterator[str]:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", module, str(port), *arguments, *options]
    with listening(argv, port, cores=cores):
        yield f"http://127.0.0.1:{port}"
