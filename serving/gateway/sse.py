"""JSON as the lines of an event stream; what a stream repeats with every piece of text is encoded once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

DONE = b"data: [DONE]\n\n"
# Clients that split with str.splitlines take these for line ends too; JSON may hold them as they are.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_encode = json.JSONEncoder(ensure_ascii=False).encode


def event_line(event: Mapping[str, Any]) -> bytes:
    """Return an event of that JSON."""
    return f"data: {_one_line(event)}\n\n".encode(errors="replace")


class TextLines:
    """Events that differ in one text only."""

    def __init__(self, event: Mapping[str, Any], mark: str) -> None:
        """`event` has `mark` where the texts go, as a whole string and nowhere else.

        Raises:
            ValueError: it has not.
        """
        before, found, after = f"data: {_one_line(event)}\n\n".partition(_encode(mark))
        if not found:
            raise ValueError(f"no {mark!r} in {event}")
        self._before = before
        self._after = after

    def line(self, text: str) -> bytes:
        """Return the event with `text`."""
        return f"{self._before}{_one_line(text)}{self._after}".encode(errors="replace")


def _one_line(value: object) -> str:
    encoded = _encode(value)
    if _LINE_ENDS.search(encoded) is not None:
        encoded = _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded)
    return encoded
