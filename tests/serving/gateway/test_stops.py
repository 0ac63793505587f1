from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.relay import End, Pieces, Text
from serving.gateway.stops import until_stop

_LETTERS = st.text("ab", max_size=4)


def _cut(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """Return the text that comes out, and whether all pieces were asked for."""
    finished = False

    async def source() -> Pieces:
        nonlocal finished
        for piece in pieces:
            yield Text(piece)
        finished = True
        yield End("length", None)

    async def collect() -> str:
        return "".join([p.text async for p in until_stop(source(), stops) if isinstance(p, Text)])

    return asyncio.run(collect()), finished


def test_text_that_only_begins_like_a_stop_is_kept() -> None:
    assert _cut(["a<", "b<|", "en"], ["<|end|>"]) == ("a<b<|en", True)


def test_engine_is_let_go_at_the_stop() -> None:
    assert _cut(["ab", "c", "d"], ["bc"]) == ("a", False)


@given(st.lists(_LETTERS.filter(bool)), st.lists(_LETTERS.filter(bool), min_size=1, max_size=3))
def test_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    text, _ = _cut(pieces, stops)
    # Pieces are looked at one by one: of stops that end in the same piece the first in the text counts.
    assert whole.startswith(text)
    assert not any(stop in text for stop in stops)
    assert text == whole if not ends else len(text) >= min(ends)
