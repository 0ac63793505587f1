"""Installs the clients that are no dependency of this project, each pinned, into a folder of their own.

    python -m tests.clients.environments [FOLDER]

A minute or two, most of it pip; so it is no part of `make test`. What cannot be installed is told, and its tests skip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PYTHON_CLIENTS = ("langchain-openai==1.7.4", "litellm==1.110.2", "openai==3.57.0")
NPM_CLIENTS = ("openai@7.57.0",)


def main() -> None:
    """Make the folder, or bring it up to date."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var/test-clients").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    if not (python / "bin" / "python").exists():
        venv.create(python, with_pip=True)
    _install([str(python / "bin" / "pip"), "install", "-q", *PYTHON_CLIENTS], folder)
    npm = shutil.which("npm")
    if npm is None:
        print("no npm: its client's tests will be skipped", file=sys.stderr)
    else:
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        _install([npm, "install", "--silent", "--no-audit", "--no-fund", *NPM_CLIENTS], folder)


def _install(command: list[str], folder: Path) -> None:
    if subprocess.run(command, cwd=folder, check=False).returncode:
        print(f"not installed: {' '.join(command)}; the tests that need it will be skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
