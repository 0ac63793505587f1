"""Text out of tokens as they are generated, each piece as soon as its characters are complete.

transformers' own TextIteratorStreamer waits for a space, and says nothing for as long as there is none.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TokenText:
    """Given to `generate` as its streamer, read by another thread."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = 0  # tokens whose text is out
        self._context = 0  # where decoding begins: a token's text may depend on the one before it
        self._pieces: queue.Queue[str | None] = queue.Queue()
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Take the next tokens; the first call brings the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += value.flatten().tolist()
        self._show(is_last=False)

    def end(self) -> None:
        """Note that no more come."""
        self._show(is_last=True)
        self._pieces.put(None)

    def _show(self, *, is_last: bool) -> None:
        old = self._decode(self._ids[self._context : self._shown])
        text = self._decode(self._ids[self._context :])
        if len(text) > len(old) and (is_last or not text.endswith(_INCOMPLETE)):
            self._pieces.put(text[len(old) :])
            self._context, self._shown = self._shown, len(self._ids)

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            yield piece
