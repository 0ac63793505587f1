"""What is asked in a load test: questions of a file or a workbook, or a trace of what people asked, and when.

A trace is JSON Lines of `timestamp` (seconds, from whenever) with `question` or `messages`; the gateway's own log of
requests, where it was told to keep prompts (serve.log_prompts), is one too.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError

Prompt = str | Sequence[Mapping[str, Any]]
"""A question, or the messages of a conversation."""
_WORKBOOKS = (".xlsx", ".xls", ".csv")


@dataclass(frozen=True)
class Trace:
    """Prompts with the times at which they are due, in seconds from the first, ascending."""

    prompts: tuple[Prompt, ...]
    due_s: tuple[float, ...]


def read_questions(path: Path) -> list[str]:
    """Return the `question` of every line of JSON Lines, or the question of every row of a workbook.

    Raises:
        InputError: the file cannot be read, a line has none, or there is none at all.
    """
    if path.suffix.lower() in _WORKBOOKS:
        from data.row_source import RowSource, read_rows

        asked = [row.question for row in read_rows(RowSource(path))]
    else:
        asked = [_question(line, where) for line, where in _lines(path)]
    if not asked:
        raise InputError(f"{path}: no question; give --questions FILE with one a line")
    return asked


def read_trace(path: Path, speed: float = 1.0) -> Trace:
    """Read a trace; `speed` 2 lets it pass in half its time.

    Raises:
        InputError: the file cannot be read, a line is neither form, or no line has a prompt.
    """
    found = [event for line, where in _lines(path) if (event := _event(line, where)) is not None]
    if not found:
        raise InputError(
            f"{path}: no line with a time and a prompt; of the server's log, serve.log_prompts keeps prompts"
        )
    found.sort(key=lambda event: event[0])
    start_s = found[0][0]
    return Trace(
        tuple(prompt for _, prompt in found), tuple((time_s - start_s) / speed for time_s, _ in found)
    )


def _lines(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield each line's JSON value with its place."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give --questions FILE or a --name") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line), f"{path}:{number}"
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON ({error})") from error


def _question(line: Any, where: str) -> str:
    try:
        return str(line["question"])
    except (KeyError, TypeError) as error:
        raise InputError(f'{where}: expected {{"question": "..."}} ({error!r})') from error


def _event(line: Any, where: str) -> tuple[float, Prompt] | None:
    """Return a line's time in seconds and its prompt; None for a line of the log that has no prompt."""
    try:
        if "timestamp" in line:
            prompt = line["messages"] if "messages" in line else str(line["question"])
            return float(line["timestamp"]), prompt
        ended = datetime.datetime.fromisoformat(line["time"]).timestamp()
        if not line.get("prompt"):
            return None
        # The log's time is the request's end.
        return ended - float(line["duration_ms"]) / 1000, line["prompt"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{where}: expected {{"timestamp": 12.5, "question": "..."}} or a line of the server\'s log ({error!r})'
        ) from error
