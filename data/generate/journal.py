"""Replies on disk, one a line as they come, so that a killed run asks on where it was. One process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from data.errors import UsageError


class Journal:
    """The replies by key; a key is a digest of all that the reply depends on.

    Lines are only ever added; half a line, left by a kill, is passed over and asked again.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._replies: dict[str, str] = {}
        ends_whole = True
        for line in file:
            ends_whole = line.endswith("\n")
            try:
                entry = json.loads(line)
                self._replies[str(entry["key"])] = str(entry["reply"])
            except (ValueError, TypeError, KeyError):
                continue
        if not ends_whole:
            file.write("\n")

    def get(self, key: str) -> str | None:
        """Return the reply of a key, "" where every try was malformed; None where there is none yet."""
        return self._replies.get(key)

    def add(self, key: str, reply: str) -> None:
        """Keep a reply; it is on disk when this returns."""
        self._replies[key] = reply
        self._file.write(json.dumps({"key": key, "reply": reply}, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal at `path`, made where there is none.

    Raises:
        UsageError: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{path}: another `data generate` is writing it; wait, or give another --out"
            ) from None
        file.seek(0)
        yield Journal(file)
