"""Writing files and folders so that a reader, or a killed writer, never leaves or sees half of one.

Everything is written beside its final place and renamed over it. Knows nothing of what is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value, the same for equal values whatever their key order."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that `path` holds the old content or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def link_folder(source: Path, folder: Path) -> None:
    """Make `folder` hold the files of `source` without copying them, where the file system has hard links.

    For files that are never written again: both folders show a change.
    """
    shutil.copytree(source, folder, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, of the same suffix, for a library that writes files by itself.

    What was written there takes the place of `path` when the block ends without an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error.

    A folder already at `path` stays whole until then. What a killed run left beside is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    retired = _retired(path)
    recover_folder(path)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if path.exists():
        path.rename(retired)
    beside.rename(path)
    shutil.rmtree(retired, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Undo a replacement that was killed between its two renames; for a reader that is the folder's only user."""
    retired = _retired(path)
    if retired.exists():
        if path.exists():
            shutil.rmtree(retired)
        else:
            retired.rename(path)


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.retired")
