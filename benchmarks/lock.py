"""Writes requirements.lock and requirements-dev.lock: what pyproject.toml's ranges resolve to in fresh environments.

    python3 benchmarks/lock.py

Build tags of local wheels (torch 2.13.0+cpu) are left out, so that the lock names the release and the index
decides the build.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The newest torch that has a CPU wheel where this project is developed.
PINNED = ("torch==2.13.0",)
# What an editable install without build isolation needs.
BUILD = ("setuptools>=77", "wheel")


def resolve(requirements: list[str]) -> dict[str, str]:
    """Return name to version of everything that `requirements` bring into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        pip = [f"{folder}/venv/bin/python", "-m", "pip", "install", "-q", "--ignore-installed", "--dry-run"]
        subprocess.run([*pip, "--report", str(report), *requirements], check=True)
        installed = json.loads(report.read_text())["install"]
    return {
        item["metadata"]["name"].lower(): item["metadata"]["version"].partition("+")[0] for item in installed
    }


def write(path: Path, versions: dict[str, str]) -> None:
    """Write one lock file."""
    head = "# Written by benchmarks/lock.py; do not edit.\n"
    path.write_text(head + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))


def main() -> None:
    """Resolve the default and the development requirements together, so that they agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    default = resolve([*PINNED, *BUILD, *project["dependencies"]])
    pins = [f"{name}=={version}" for name, version in default.items()]
    both = resolve([*pins, *project["optional-dependencies"]["dev"]])
    write(ROOT / "requirements.lock", default)
    write(ROOT / "requirements-dev.lock", {name: v for name, v in both.items() if name not in default})


if __name__ == "__main__":
    main()
