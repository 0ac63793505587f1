"""Ends an answer at a stop string, for engines that do not look at `stop`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from serving.gateway.relay import End, Pieces, Text


async def until_stop(pieces: Pieces, stops: Sequence[str]) -> Pieces:
    """Yield `pieces` up to the first of `stops`, which is left out as OpenAI does; then the engine is let go.

    Text that may be the beginning of a stop string is held back until it is clear. An answer that is cut has
    no `usage`: the engine never came to count it.
    """
    held = ""
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Text):
                held += piece.text
                if (cut := _first(held, stops)) is not None:
                    if cut:
                        yield Text(held[:cut])
                    yield End("stop", None)
                    return
                safe = len(held) - _unclear(held, stops)
                if safe:
                    yield Text(held[:safe])
                    held = held[safe:]
                continue
            if held:
                yield Text(held)
                held = ""
            yield piece


def _first(text: str, stops: Sequence[str]) -> int | None:
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def _unclear(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of `text` may begin a stop string."""
    lengths = [length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
    return max(lengths, default=0)
