"""Questions that got no answer, kept so that somebody may answer them: JSON Lines in the run's folder.

Only where the configuration says so: people write about themselves. Nothing of who asked is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from data.errors import InputError

FILE = "unanswered.jsonl"
_MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class Unanswered:
    """A question without an answer.

    Attributes:
        question: As it was asked.
        searched: As it was understood in its conversation.
        reason: `refused`: nothing in the knowledge base was near enough; `declined`: the model said so of the rows.
        nearest: The id of the nearest row, "" where there is none.
        kb_version: The index's version.
        asked_at: Seconds since the epoch.
    """

    question: str
    searched: str
    reason: str
    nearest: str
    kb_version: str
    asked_at: float


class UnansweredLog:
    """Appends to the file of a run; safe to use from several threads and processes."""

    def __init__(self, path: Path, now_s: Callable[[], float]) -> None:
        self._path = path
        self._now_s = now_s

    def keep(self, question: str, searched: str, reason: str, nearest: str, kb_version: str) -> None:
        """Append a question; beyond 20 MB none is kept until the file is taken away."""
        record = asdict(Unanswered(question, searched, reason, nearest, kb_version, self._now_s()))
        line = json.dumps(record, ensure_ascii=False) + "\n"
        # One write to a file opened for appending: lines of several processes do not mix.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(descriptor).st_size < _MOST_BYTES:
                os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def read_unanswered(path: Path) -> list[Unanswered]:
    """Read what was kept, oldest first; a line that a crash cut off at the end is left out.

    Raises:
        InputError: there is no such file, or a line is not such a record.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no unanswered questions were kept; set retrieve.keep_unanswered and serve"
        ) from None
    lines = text.split("\n")
    found = []
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            found.append(Unanswered(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a record of an unanswered question ({error})") from error
    return found
