"""How well an answer's citations fit: the right row cited, nothing else cited, every sentence said by what is cited.

Knows nothing of how a server writes citations down.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from data.records import Row, revision_of
from rag.support import SupportMeter

_SENTENCE = re.compile(r"[^。！？；!?;\n]*?(?:[。！？；!?;\n]|\.(?=\s|$)|$)")


@dataclass(frozen=True)
class Passage:
    """A row as an answer cites it: `text` is the row's answer, `source` where a person finds it."""

    row_id: str
    title: str
    text: str
    url: str
    source: str


@dataclass(frozen=True)
class CitationScores:
    """From 0 to 1. `precision` is None where nothing is cited, `recall` where no row is right."""

    precision: float | None
    recall: float | None


def score_citations(
    cited: Sequence[Passage], right_rows: Collection[str], reference: str = ""
) -> CitationScores:
    """Compare the cited rows, each counted once, with the ids of the rows that answer the question.

    A row with the very words of `reference` for an answer is as right as the one that was meant.
    """
    wanted = revision_of(reference) if reference else None
    rows = {passage.row_id: passage for passage in cited}
    is_twin = {row_id: wanted == revision_of(passage.text) for row_id, passage in rows.items()}
    num_right = sum(row_id in right_rows or is_twin[row_id] for row_id in rows)
    precision = num_right / len(rows) if rows else None
    if not right_rows:
        return CitationScores(precision, None)
    found = len(set(right_rows) & set(rows)) / len(right_rows)
    return CitationScores(precision, 1.0 if len(right_rows) == 1 and num_right else found)


def groundedness(answer: str, cited: Sequence[Passage]) -> float | None:
    """Return the share (0 to 1) of the answer's statements that a cited row supports (rag.support).

    Questions, and sentences too short to judge, do not count; None where nothing is left. `answer` has no markers.
    """
    meter = SupportMeter([Row(item.row_id, "", item.title, "", "", item.text, item.source) for item in cited])
    judged = [meter.measure(sentence) for sentence in statements(answer)]
    counted = [support for support in judged if support.is_judged]
    if not counted:
        return None
    return sum(support.best is not None for support in counted) / len(counted)


def statements(text: str) -> list[str]:
    """Return the sentences of a text that are not questions."""
    found = (match.group().strip() for match in _SENTENCE.finditer(text))
    return [sentence for sentence in found if sentence and sentence[-1] not in "?？"]
