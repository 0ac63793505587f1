"""Where an answer says what its reference does not: the answer cut into pieces, each said by the reference or not."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from data.records import normalised
from rag.terms import has_cjk

_MARKER = re.compile(r"\[\d+\]")
_UNIT = re.compile(r"\[\d+\]|[\u3400-\u9fff\uf900-\ufaff]|[^\W\u3400-\u9fff\uf900-\ufaff]+|[^\w]", re.UNICODE)
_SHORTEST_MATCH = 2

Piece = tuple[str, bool]
"""A piece of the answer, and whether the reference has it too, in this place."""


def marked(answer: str, reference: str) -> list[Piece]:
    """Return the answer's pieces in order; joined they are the answer."""
    units, others = _UNIT.findall(answer), _UNIT.findall(reference)
    # A citation's marker says nothing that a reference could.
    shared = [not unit.strip() or _MARKER.fullmatch(unit) is not None for unit in units]
    matcher = SequenceMatcher(
        None, [normalised(unit) for unit in units], [normalised(unit) for unit in others], autojunk=False
    )
    for block in matcher.get_matching_blocks():
        # A lone Chinese character in common says nothing.
        matched = "".join(units[block.a : block.a + block.size])
        if block.size >= _SHORTEST_MATCH or (matched.strip() and not has_cjk(matched)):
            shared[block.a : block.a + block.size] = [True] * block.size
    pieces: list[Piece] = []
    for unit, is_shared in zip(units, shared, strict=True):
        if pieces and pieces[-1][1] == is_shared:
            pieces[-1] = (pieces[-1][0] + unit, is_shared)
        else:
            pieces.append((unit, is_shared))
    return pieces
