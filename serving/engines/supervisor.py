"""Starts engine processes, waits until they produce a token, and stops them without leaving anything behind.

Each runs under data/launcher.py, which ends it when this process closes a pipe, however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import IO

import httpx

from data import launcher
from data.errors import GroundTuneError
from serving.engines.engine import Command, Engine
from serving.engines.readiness import NotReadyError, produce_token

_LAUNCHER = Path(launcher.__file__)
_POLL_S = 0.1
_LOG_LINES = 15


class EngineProcess:
    """One engine's process, which may be started again after it has stopped."""

    def __init__(
        self,
        engine: Engine,
        command: Command,
        log: Path,
        grace_s: float = 2.0,
        identity: Hashable | None = None,
    ) -> None:
        """Starts nothing.

        Args:
            grace_s: The time between asking the process to stop and killing it.
            identity: Equal for two processes that would answer alike; default: equal to no other's.
        """
        self.identity = identity if identity is not None else object()
        self.engine = engine
        self.log = log
        self._command = command
        self._grace_s = grace_s
        self._launcher: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The launcher's process id; the engine is its child."""
        return self._launcher.pid if self._launcher else None

    @property
    def in_turn(self) -> bool:
        """Whether it must have started before another of its kind does."""
        return self._command.in_turn

    @property
    def exit_status(self) -> int | None:
        """None while it runs, and before it was started."""
        return self._launcher.poll() if self._launcher else None

    def start(self) -> None:
        """Start the process; its output goes to the log file. The one before it is kept as `NAME.log.1`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(self._grace_s), *self._command.argv]
        with self.log.open("wb") as output:
            self._launcher = subprocess.Popen(
                launch,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._command.folder,
                env={**os.environ, **self._command.environment},
                start_new_session=True,
            )

    async def wait_ready(self, client: httpx.AsyncClient, timeout_s: float) -> None:
        """Return when the engine has produced a token.

        Raises:
            GroundTuneError: it ended, or produced none in `timeout_s`; carries the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        reason = "not asked yet"
        while (left_s := deadline - time.monotonic()) > 0:
            if self.exit_status is not None:
                raise GroundTuneError(self._failure(f"ended with status {self.exit_status} while starting"))
            try:
                await produce_token(client, self.engine, left_s)
                return
            except NotReadyError as error:
                reason = str(error)
            await asyncio.sleep(_POLL_S)
        raise GroundTuneError(
            self._failure(
                f"not ready within {timeout_s:g} s ({reason}); raise serve.start_timeout_s if it needs longer"
            )
        )

    def _failure(self, what: str) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        lines = [f"  {line}" for line in text.splitlines()[-_LOG_LINES:]]
        return "\n".join(
            [f"engine {self.engine.name!r} {what}; last lines of {self.log}:", *(lines or ["  (empty)"])]
        )

    def stop(self) -> None:
        """Stop the process if it runs; returns when nothing of it is left."""
        self.ask_to_stop()
        self.wait_stopped()

    def ask_to_stop(self) -> None:
        """Begin stopping; returns at once."""
        if self._launcher is not None:
            _close(self._launcher.stdin)

    def wait_stopped(self) -> None:
        """Return when the process and everything it started are gone."""
        if self._launcher is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._launcher.wait(self._grace_s + 3)
        if self._launcher.poll() is None:
            self._launcher.kill()
            self._launcher.wait()
        if self._launcher.returncode < 0:
            # The launcher was killed, so nothing swept up behind it. Its group still has its id.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._launcher.pid, signal.SIGKILL)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


async def start_engines(
    processes: Sequence[EngineProcess], client: httpx.AsyncClient, timeout_s: float
) -> None:
    """Start all and return when each has produced a token; if one fails, none is left running.

    All at once, but for those that must start in turn.
    """

    async def start(group: Sequence[EngineProcess]) -> None:
        for process in group:
            process.start()
            await process.wait_ready(client, timeout_s)

    in_turn = [process for process in processes if process.in_turn]
    groups = [in_turn, *([process] for process in processes if not process.in_turn)]
    starting = [asyncio.ensure_future(start(group)) for group in groups if group]
    try:
        await asyncio.gather(*starting)
    except BaseException:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        stop_engines(processes)
        raise


def stop_engines(processes: Sequence[EngineProcess]) -> None:
    """Stop all, side by side; returns when they are gone, after `grace_s` at most plus a moment."""
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.wait_stopped()
