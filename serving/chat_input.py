"""Reads messages from a terminal or a pipe: lines joined to messages, a history that only its owner can read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.history import History

_QUOTES = '"""'
ReadLine = Callable[[bool], str | None]


def message_reader(history: Path) -> Callable[[], str | None]:
    """Return what reads the next message: with editing and history on a terminal, plainly from a pipe."""
    read_line = _terminal_lines(history) if sys.stdin.isatty() else _piped_line
    return lambda: read_message(read_line)


def read_message(read_line: ReadLine) -> str | None:
    r"""Return the next message, or None at the end of the input.

    A line that ends with `\` goes on with the next one; one that begins with three quotation marks goes on to the line
    that ends with them. The input's end ends the message too.

    Args:
        read_line: Returns a line without its end, or None; is told whether the line goes on with a message.
    """
    line = read_line(False)
    if line is None:
        return None
    if line.lstrip().startswith(_QUOTES):
        return _quoted(line.lstrip().removeprefix(_QUOTES), read_line)
    lines = []
    while line is not None and line.endswith("\\"):
        lines.append(line[:-1])
        line = read_line(True)
    return "\n".join([*lines, line or ""] if lines else [line or ""])


def _quoted(first: str, read_line: ReadLine) -> str:
    lines, line = [], first
    while not line.rstrip().endswith(_QUOTES):
        lines.append(line)
        more = read_line(True)
        if more is None:
            return "\n".join(lines)
        line = more
    return "\n".join([*lines, line.rstrip().removesuffix(_QUOTES)])


def _piped_line(_: bool) -> str | None:
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None


def _terminal_lines(path: Path) -> ReadLine:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    # Where the answers go to a file, the prompt still belongs on the terminal.
    session: PromptSession[str] = PromptSession(
        history=_history(path), output=create_output(always_prefer_tty=True)
    )

    def read(is_continued: bool) -> str | None:
        try:
            return session.prompt("… " if is_continued else "› ")
        except (EOFError, KeyboardInterrupt):
            return None

    return read


def _history(path: Path) -> History:
    """Return the history in a file that only its owner can read; in memory where there can be none."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.fchmod(handle, 0o600)  # the file may be older than this rule
        finally:
            os.close(handle)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
