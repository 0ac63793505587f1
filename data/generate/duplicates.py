"""Draft questions that are asked already, in a workbook or by an earlier draft, are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from data.generate.checking import Draft
from data.knowledge_sheet import ALL_SHEETS, WorkbookChoice, open_knowledge
from data.similarity import NEAR_DUPLICATE, asks_the_same, grams, similar_pairs
from data.wording import words

D = TypeVar("D", bound=Draft)


def existing_questions(path: Path) -> list[str]:
    """Return the questions of a workbook's sheets, also of drafts that await review.

    Raises:
        InputError: it is no workbook, or no sheet has columns Q and A.
    """
    with open_knowledge(WorkbookChoice(path, sheet=ALL_SHEETS)) as book:
        return [line.cells["Q"] for sheet in book.sheets for line in sheet.lines() if line.cells["Q"].strip()]


def without_duplicates(drafts: Sequence[D], existing: Sequence[str]) -> list[D]:
    """Return the drafts in order whose question neither `existing` nor a draft kept before asks."""
    asked = [*existing, *(draft.question for draft in drafts)]
    told = [words(text) for text in asked]
    # At equal canonical words similarity is 1; a pair of lower similarity may still be one question.
    earlier: dict[int, set[int]] = defaultdict(set)
    sets = [grams(text) for text in asked]
    first_of_equals: dict[tuple[str, ...], int] = {}
    for place, each in enumerate(told):
        first = first_of_equals.setdefault(tuple(each), place)
        if first != place:
            earlier[place].add(first)
    for pair in similar_pairs(sets, NEAR_DUPLICATE):
        if asks_the_same(told[pair.left], told[pair.right], pair.similarity):
            earlier[pair.right].add(pair.left)
    dropped: set[int] = set()
    for place in range(len(existing), len(asked)):
        if earlier[place] - dropped:
            dropped.add(place)
    return [draft for place, draft in enumerate(drafts, start=len(existing)) if place not in dropped]
