"""From sources to draft rows: what is asked, and what of the replies is kept. The same replies give the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.generate.asking import Request
from data.generate.checking import AnswerStyle, Draft, checked, is_question
from data.generate.chunks import Chunk, cut
from data.generate.duplicates import without_duplicates
from data.generate.prompts import ask_prompt, reword_prompt
from data.generate.replies import read_pairs, read_wordings
from data.generate.sources import find_documents, read_document
from data.records import Row
from data.similarity import NearestIndex, grams, similarity
from data.wording import negations, numbers, words

_TOKENS_A_PAIR = 160
_TOKENS_A_WORDING = 48
# Another wording keeps this much of the question's grams: a model that misunderstood keeps less.
_LEAST_ALIKE = 0.15

Work = Mapping[Request, "Chunk | Row"]


@dataclass(frozen=True)
class Wanted:
    """What of a reply is wanted: how many questions a chunk or wordings a row, and how well supported."""

    num: int
    least_score: float
    answers: AnswerStyle


def chunk_requests(sources: Sequence[Path], size_chars: int, wanted: Wanted) -> dict[Request, Chunk]:
    """Return a request for each chunk of the sources, in order; a chunk that stands twice is asked about once.

    Raises:
        InputError: a source cannot be read.
    """
    work: dict[Request, Chunk] = {}
    for path in find_documents(sources):
        for chunk in cut(read_document(path), size_chars):
            prompt = ask_prompt(chunk, wanted.num)
            work.setdefault(Request(prompt, _TOKENS_A_PAIR * wanted.num, _has_pairs), chunk)
    return work


def _has_pairs(reply: str) -> bool:
    return bool(read_pairs(reply))


def chunk_drafts(
    work: Mapping[Request, Chunk], replies: Mapping[Request, str], wanted: Wanted, existing: Sequence[str]
) -> list[Draft]:
    """Return the supported pairs of all replies in the order of the text, those asked already left out."""
    drafts = [
        draft
        for request, chunk in work.items()
        for draft in checked(read_pairs(replies[request]), chunk, wanted.least_score, wanted.answers)
    ]
    return without_duplicates(drafts, existing)


def row_requests(rows: Sequence[Row], wanted: Wanted) -> dict[Request, Row]:
    """Return a request for other wordings of each row's question."""
    work: dict[Request, Row] = {}
    for row in rows:
        # A few more than wanted, since some will not do.
        prompt = reword_prompt(row, wanted.num + 2)
        work.setdefault(Request(prompt, _TOKENS_A_WORDING * (wanted.num + 2), _has_wordings), row)
    return work


def _has_wordings(reply: str) -> bool:
    return bool(read_wordings(reply))


def row_drafts(
    work: Mapping[Request, Row], replies: Mapping[Request, str], rows: Sequence[Row], wanted: Wanted
) -> list[Draft]:
    """Return wordings that still ask the row's question: `wanted.num` a row at most, the answer the row's own."""
    nearest = NearestIndex([grams(row.question) for row in rows])
    drafts = [
        draft
        for request, row in work.items()
        for draft in list(_other_wordings(row, read_wordings(replies[request]), nearest, rows))[: wanted.num]
    ]
    return without_duplicates(drafts, [row.question for row in rows])


def _other_wordings(
    row: Row, wordings: Sequence[str], nearest: NearestIndex, rows: Sequence[Row]
) -> Iterator[Draft]:
    own, own_words = grams(row.question), words(row.question)
    for text in wordings:
        said, said_words = grams(text), words(text)
        alike = similarity(own, said)
        if not is_question(text) or said_words == own_words or alike < _LEAST_ALIKE:
            continue
        if numbers(said_words) != numbers(own_words) or negations(said_words) != negations(own_words):
            continue
        found = nearest.nearest(said)
        if found is None or grams(rows[found[0]].question) != own:
            continue
        yield Draft(row.info_1, row.info_2, text, row.answer, row.source, row.question, round(alike, 3))
