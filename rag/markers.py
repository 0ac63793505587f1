"""Finding citation markers in a stream of characters. Knows their spellings, not what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MARKER = re.compile(r"[\[【［]\s*(\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*)\s*[\]】］]")
_NUMBER = re.compile(r"\d+")
_OPENERS = "[【［"
_CLOSERS = "]】］"
_BETWEEN = " ,，、;；"
_LONGEST = 24


@dataclass(frozen=True)
class Marker:
    """`[1]`, `【1】`, `［1］` or `[1, 2]`: the numbers in it."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Code:
    """A character between backticks, or a backtick; brackets in code are not markers."""

    character: str


Token = str | Code | Marker


class MarkerScanner:
    """Cuts a text, given character by character, into plain characters, code and markers.

    Holds back what may become a marker, at most 24 characters.
    """

    def __init__(self) -> None:
        self._held = ""
        # Backticks in the run that is being read, and in the run that opened the code we are in (0: none).
        self._ticks = 0
        self._fence = 0

    def take(self, character: str) -> Iterator[Token]:
        """Take the next character; yield what is now known."""
        if self._held and self._may_go_on(character):
            self._held += character
            if character in _CLOSERS:
                yield from self._close()
            return
        yield from self.finish()
        if self._is_code(character):
            yield Code(character)
        elif character in _OPENERS:
            self._held = character
        else:
            yield character

    def finish(self) -> Iterator[Token]:
        """Yield what is held: it is no marker."""
        held, self._held = self._held, ""
        yield from held

    @property
    def in_code(self) -> bool:
        """Whether what comes next would be code."""
        return self._open_fence() > 0

    def _open_fence(self) -> int:
        """The backticks of the run that opened the code we are in, now that the run being read has ended."""
        if not self._ticks:
            return self._fence
        return 0 if self._ticks == self._fence else (self._fence or self._ticks)

    def _may_go_on(self, character: str) -> bool:
        known = character.isdecimal() or character in _BETWEEN or character in _CLOSERS
        return known and len(self._held) < _LONGEST

    def _close(self) -> Iterator[Token]:
        match = _MARKER.fullmatch(self._held)
        if match is None:
            yield from self.finish()
            return
        self._held = ""
        yield Marker(tuple(int(number) for number in _NUMBER.findall(match.group(1))))

    def _is_code(self, character: str) -> bool:
        """Follow the backticks; code opened by one or two of them ends with its line at the latest."""
        if character == "`":
            self._ticks += 1
            return True
        self._fence, self._ticks = self._open_fence(), 0
        if character == "\n" and self._fence < 3:
            self._fence = 0
        return self._fence > 0
