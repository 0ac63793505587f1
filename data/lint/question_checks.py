"""Faults between rows: questions asked twice, and answers that contradict each other or only repeat the question.

Two rows ask the same when `data.similarity.asks_the_same` says so: their canonical questions are equal, or nearly
and different in wording only. A number, a negation or any content word exchanged for another makes two questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data.lint.cell_checks import finding, is_text
from data.lint.findings import Finding
from data.lint.table import Line, Table
from data.records import normalised
from data.similarity import (
    NEAR_DUPLICATE,
    Grams,
    Pair,
    asks_the_same,
    grams,
    grams_of,
    similar_pairs,
    similarity,
)
from data.wording import canonical_of, numbers, words

# Two answers as alike as this say the same.
_SAME_ANSWER = 0.9
_SLACK_CHARACTERS = 20
_INFO_FIELDS = ("info_1", "info_2")


@dataclass(frozen=True)
class _Asked:
    """A usable row, with its question in the forms that are compared."""

    line: Line
    words: tuple[str, ...]
    canonical: str
    grams: Grams
    info: tuple[str, ...]


def check_questions(table: Table) -> Iterator[Finding]:
    """Yield findings about questions; each repeated row is held against the first that asks the same."""
    asked = [_asked(line) for line in table.lines if _is_usable(line)]
    for item in asked:
        if _only_repeats(item):
            yield finding(
                table,
                item.line,
                "A",
                "answer-is-question",
                "error",
                "the answer is the question; write the answer",
            )
    pairs = similar_pairs(
        [item.grams for item in asked], NEAR_DUPLICATE, [numbers(item.words) for item in asked]
    )
    repeated: dict[int, Pair] = {}
    num_ambiguous = 0
    for pair in pairs:
        left, right = asked[pair.left], asked[pair.right]
        if not asks_the_same(left.words, right.words, pair.similarity):
            continue
        if left.info != right.info and not _name_their_subject(left, right):
            num_ambiguous += left.canonical == right.canonical
            continue
        known = repeated.get(pair.right)
        if known is None or (-pair.similarity, pair.left) < (-known.similarity, known.left):
            repeated[pair.right] = pair
    for _, pair in sorted(repeated.items()):
        yield _repeated(table, asked[pair.left], asked[pair.right], pair.similarity)
    if num_ambiguous:
        column = table.columns["Q"]
        yield Finding(
            "ambiguous-questions",
            "info",
            table.sheet,
            f"{column}{table.header_row}",
            "Q",
            f"{num_ambiguous} questions are asked under another info_1 or info_2 too and do not name it; without it "
            "they cannot be told apart (train with prepare.styles: [seed])",
        )


def _only_repeats(item: _Asked) -> bool:
    question, answer = item.line.cells["Q"], item.line.cells["A"]
    # Canonical forms are costly, and a long answer cannot be equal to a short question.
    if len(answer) > 2 * len(question) + _SLACK_CHARACTERS:
        return False
    return canonical_of(words(answer)) == item.canonical


def _is_usable(line: Line) -> bool:
    return all(is_text(line.cells[name]) for name in ("Q", "A"))


def _asked(line: Line) -> _Asked:
    found = tuple(words(line.cells["Q"]))
    text = canonical_of(found)
    info = tuple(normalised(line.cells.get(name, "")) for name in _INFO_FIELDS)
    return _Asked(line, found, text, grams_of(text), info)


def _name_their_subject(left: _Asked, right: _Asked) -> bool:
    """Tell whether the question is clear without info_1 and info_2.

    It is when one of the rows' questions holds its info_1, the subject (痛风有哪些症状), or an info_2 in which the
    rows differ; 有哪些症状 under two subjects is not, though it holds the aspect 症状.
    """
    subject = any(row.info[0] and row.info[0] in normalised(row.line.cells["Q"]) for row in (left, right))
    return subject or (
        left.info[1] != right.info[1]
        and any(row.info[1] and row.info[1] in normalised(row.line.cells["Q"]) for row in (left, right))
    )


def _repeated(table: Table, first: _Asked, again: _Asked, alike: float) -> Finding:
    other = table.cell(first.line, "Q")
    same_wording = normalised(first.line.cells["Q"]) == normalised(again.line.cells["Q"])
    like = (
        f"the same question as {other}"
        if alike == 1
        else f"nearly the question of {other} (similarity {alike:.2f})"
    )
    if not _say_the_same(first.line.cells["A"], again.line.cells["A"]):
        return finding(
            table,
            again.line,
            "A",
            "conflicting-answers",
            "error" if same_wording and first.info == again.info else "warning",
            f"{like}, and another answer than {table.cell(first.line, 'A')}; keep one, or make one of both",
            related=table.cell(first.line, "A"),
        )
    return finding(
        table,
        again.line,
        "Q",
        "duplicate-question" if same_wording else "near-duplicate",
        "warning",
        f"{like}, with the same answer; one is enough",
        related=other,
    )


def _say_the_same(left: str, right: str) -> bool:
    return normalised(left) == normalised(right) or similarity(grams(left), grams(right)) >= _SAME_ANSWER
