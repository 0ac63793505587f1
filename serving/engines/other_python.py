"""Asks another environment, through its interpreter, what it holds."""

from __future__ import annotations

import os
import subprocess

_VERSION = "from importlib.metadata import version; print(version({package!r}))"
_ASK_S = 60.0


class NotRunningError(Exception):
    """The interpreter does not run."""


def package_version(python: str, package: str) -> str | None:
    """Return the version of `package` for that interpreter; None where it is not installed.

    Raises:
        NotRunningError: there is no such interpreter, or it does not answer.
    """
    # This process's own path is not the other environment's.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _VERSION.format(package=package)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRunningError(f"{python} does not run ({type(error).__name__})") from error
    return done.stdout.strip() if done.returncode == 0 else None
