"""Events on the wire: one line each, whatever the text."""

from __future__ import annotations

import json

import pytest

from serving.gateway.sse import TextLines, event_line

_TEXTS = [
    "",
    "盐",
    'a "quoted" \\ word',
    "two\nlines\r\n",
    "a\u2028b\u2029c\x85d",
    "\ud83d",
    "MARK",
    "data: [DONE]",
]


def _event(text: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [{"delta": {"content": text}, "finish_reason": None}],
    }


@pytest.mark.parametrize("text", _TEXTS)
def test_a_texts_line_is_that_of_its_whole_event(text: str) -> None:
    line = TextLines(_event("MARK"), "MARK").line(text)
    assert line == event_line(_event(text))
    assert line.endswith(b"\n\n") and len(line.decode().splitlines()) == 2
    read = json.loads(line.decode().removeprefix("data: "))
    assert read == _event(text.replace("\ud83d", "?"))


def test_a_mark_that_is_not_in_the_event_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="MARK"):
        TextLines(_event("another"), "MARK")
