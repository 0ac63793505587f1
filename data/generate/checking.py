"""Whether a chunk supports what a model said: the sentences that do are found in it, else there is no draft.

The score of a draft is the share of its answer's character n-grams (`data.similarity.plain_grams`) that stand in
the span, 0 to 1. Knows nothing of how the answer was got.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from data.generate.chunks import Chunk, sentences
from data.generate.replies import Pair
from data.records import normalised
from data.similarity import plain_grams
from data.wording import negations, numbers, words

AnswerStyle = Literal["quote", "own"]
SUPPORTED = 0.6
_MOST_SENTENCES = 4
# A sentence more must bring at least this much.
_A_SENTENCE_COSTS = 0.06
_QUESTION_CHARS = (4, 120)
_LEAST_ANSWER_CHARS = 4
# A reader of the question does not have the text at hand.
_POINTS_AT_TEXT = re.compile(
    r"资料|上文|本文|文中|上述|以上|这段|该段|原文|the (?:text|passage|document|article)\b|\bthis passage",
    re.IGNORECASE,
)
_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"^\s*(?:[-*+>]|\d{1,2}\.)\s+", re.MULTILINE), ""),
    (re.compile(r"\*\*|__|`"), ""),
)


@dataclass(frozen=True)
class Draft:
    """A draft row: what the model asked, what the text answers, and where it does."""

    info_1: str
    info_2: str
    question: str
    answer: str
    source: str
    span: str
    score: float


@dataclass(frozen=True)
class Span:
    """Where an answer stands in a chunk's text, and how much of it does."""

    start: int
    end: int
    score: float


def find_span(answer: str, text: str) -> Span | None:
    """Return the few neighbouring sentences of `text` that hold the most of `answer`; None if none holds any."""
    wanted = plain_grams(answer)
    if not wanted:
        return None
    places = sentences(text)
    best, best_worth = None, 0.0
    for first in range(len(places)):
        for last in range(first, min(first + _MOST_SENTENCES, len(places))):
            start, end = places[first].start, places[last].end
            score = len(wanted & plain_grams(text[start:end])) / len(wanted)
            worth = score - _A_SENTENCE_COSTS * (last - first)
            if score and worth > best_worth + 1e-9:
                best, best_worth = Span(start, end, score), worth
    return best


def checked(pairs: Iterable[Pair], chunk: Chunk, least: float, style: AnswerStyle) -> Iterator[Draft]:
    """Yield a draft for each pair that the chunk supports, in order."""
    context = plain_grams("\n".join((chunk.text, *chunk.headings)))
    for pair in pairs:
        span = find_span(pair.answer, chunk.text)
        if span is None or span.score < least or not is_question(pair.question):
            continue
        if not plain_grams(pair.question) & context:
            continue
        text = chunk.text[span.start : span.end]
        answer = pair.answer if style == "own" and _says_no_more(pair.answer, text) else plain(text)
        if len(answer) < _LEAST_ANSWER_CHARS or normalised(answer) == normalised(pair.question):
            continue
        yield Draft(
            info_1=chunk.headings[0] if chunk.headings else "",
            info_2=chunk.headings[-1] if len(chunk.headings) > 1 else "",
            question=" ".join(pair.question.split()),
            answer=answer,
            source=chunk.document.place(chunk.start + span.start),
            span=text,
            score=round(span.score, 3),
        )


def is_question(text: str) -> bool:
    """Tell whether a text can stand as a question by itself: of some length, and not about "the passage"."""
    shortest, longest = _QUESTION_CHARS
    return shortest <= len(text) <= longest and not _POINTS_AT_TEXT.search(text)


def plain(span: str) -> str:
    """Return a span as an answer: without Markdown's marks, its lines kept."""
    for pattern, replacement in _MARKUP:
        span = pattern.sub(replacement, span)
    return "\n".join(filter(None, (" ".join(line.split()) for line in span.split("\n"))))


def _says_no_more(answer: str, span: str) -> bool:
    """Tell whether every number and every negation of an answer is the span's."""
    said, held = words(answer), words(span)
    return set(numbers(said)) <= set(numbers(held)) and negations(said) <= negations(held)
