"""LMDeploy's own command line, without its GPU: what its parser makes of arguments, as a child process.

    python -m tests.serving.engines.lmdeploy_parser FOLDER    fills FOLDER with LMDeploy 0.18 and what it imports

LMDeploy's pins exclude this project's, so that it is never installed beside it: the packages lie in a folder of
their own and this interpreter's supply the rest (torch, transformers ...), which its parser is content with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGES = (
    "lmdeploy==0.18.0",
    "mmengine-lite==0.10.7",
    "yapf==0.43.0",
    "platformdirs==4.14.8",
    "addict==2.4.0",
    "termcolor==3.3.0",
    "shortuuid==1.0.13",
)
_PARSE = """
import dataclasses, json, sys
from lmdeploy.cli.entrypoint import CLI, SubCliLite, SubCliServe
from lmdeploy.messages import TurbomindEngineConfig
CLI.add_parsers(); SubCliServe.add_parsers(); SubCliLite.add_parsers()
args = vars(CLI.parser.parse_args(sys.argv[1:]))
known = {field.name for field in dataclasses.fields(TurbomindEngineConfig)}
TurbomindEngineConfig(**{name: value for name, value in args.items() if name in known and value is not None})
print(json.dumps({name: value for name, value in args.items() if name != "run"}))
"""


def fill(folder: Path) -> str | None:
    """Install LMDeploy into `folder`; returns why that was not possible, None where it was."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(folder), *_PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def parsed(folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what `lmdeploy ARGUMENTS` would be told, as TurboMind's configuration takes it too.

    Raises:
        AssertionError: it refuses them, with what it says.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(fill(Path(sys.argv[1])))
