"""Searching for a question as it is meant in its conversation.

A follow-up is searched with the subject that it left out (rag.conversation). So short a text is near many rows; where
it names both cells of a row, as 高血压 那饮食方面呢 names info_1 and info_2 of one, that row is the one meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from data.records import Row, normalised
from rag.conversation import search_text
from rag.filters import RowFilter
from rag.stages import Search
from rag.subjects import Subjects

_LOOKED_THROUGH = 20


class Searcher(Protocol):
    """What is needed of a KnowledgeIndex."""

    @property
    def version(self) -> str:
        """Which version of the index is searched."""

    def search(self, question: str, top_k: int, only: RowFilter | None = None) -> Search:
        """Return the `top_k` best rows for a question."""


def search_in_turn(
    index: Searcher, asked: Sequence[str], subjects: Subjects, top_k: int, only: RowFilter | None = None
) -> tuple[str, Search]:
    """Return what was searched for, and what was found, given the user's messages so far, the question last.

    Raises:
        InputError: `only` leaves no row.
    """
    searched = search_text(asked, subjects)
    if searched == asked[-1]:
        return searched, index.search(searched, top_k, only)
    found = _named_first(index.search(searched, max(top_k, _LOOKED_THROUGH), only), searched)
    return searched, replace(found, hits=found.hits[:top_k])


def _named_first(found: Search, searched: str) -> Search:
    """Return the hits that `searched` names before the others; a single one is no doubtful one."""
    text = normalised(searched)
    named = [hit for hit in found.hits if _is_named(hit.row, text)]
    if not named:
        return found
    hits = (*named, *(hit for hit in found.hits if hit not in named))
    same_first = hits[0] is found.hits[0]
    return replace(
        found,
        hits=hits,
        num_best=found.num_best if same_first and len(named) > 1 else 1,
        is_doubtful=found.is_doubtful and len(named) > 1,
        is_verbatim=found.is_verbatim and same_first,
    )


def _is_named(row: Row, text: str) -> bool:
    cells = {normalised(row.info_1), normalised(row.info_2)}
    return len(cells) == 2 and all(cell and cell in text for cell in cells)
