"""Which facts of a reference an answer keeps, and which it contradicts: amounts, names of medicines, prohibitions.

Wording may change freely, these may not: 每天两次 and 每天三次 are alike and one of them is wrong.

- An amount is a number with its unit (`benchmarks.measures.amounts`). It is contradicted when the answer speaks of
  the same thing, in a clause that is otherwise alike, with another number of the same unit.
- A name is a Latin word in Chinese text, or a medicine's name by its stem (`benchmarks.measures.medicines`).
  It is kept or not; nothing contradicts it.
- A prohibition is a clause with a negation. It is kept by a clause of the answer that is alike and negated too, and
  contradicted by one that is alike and not negated; an affirmation that the answer negates is contradicted as well.

A test by words: it sees neither irony nor a fact that is put altogether differently. Pure text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measures.amounts import Amount, amounts, without_amounts
from benchmarks.measures.medicines import names
from data.records import normalised
from rag.terms import terms

_CLAUSE_END = re.compile(r"[。！？；，、,;!?\n]|\.(?=\s|$)|:(?=\s)|：")
_BUT = re.compile(r"(?:但是?|而是|不过|\bbut\b|\bhowever\b)")
# What makes a clause negative. Words that only look so (不仅, 不同, 不适 the discomfort) are taken out before.
_NOT_NEGATIVE = re.compile(
    "不仅|不但|不同|不适感?|不良|不足|不全|不稳|不久|不断|不管|不论|不妨|不过|不得不|无论|未来|无菌|无力|免疫|"
    "能不能|可不可以|是不是|有没有|要不要|会不会|\\bnot only\\b|\\bno matter\\b"
)
_NEGATIVE = re.compile(
    "不|勿|禁|忌|别再?|避免|切莫|没有|无需|无须|未|停用|慎用|非|"
    r"\b(?:not|no|never|without|avoid|neither|nor|cannot|contraindicated|stop|none)\b|n't\b"
)
# Belongs to an amount, whichever way it is put.
_EACH = re.compile(r"[每一][日天次]|\b(?:per|each|every|an?) (?:day|dose|time)\b|\bdaily\b")
_ALIKE = 0.6
"""From this share of its terms on, a clause of the reference is taken up by a clause of the answer."""
_MIN_TERMS = 2


@dataclass(frozen=True)
class FactCount:
    """Of `num` facts in a reference, how many an answer keeps and how many it contradicts."""

    num: int
    kept: int
    contradicted: int

    @property
    def kept_share(self) -> float | None:
        """From 0 to 1; None where the reference states no such fact."""
        return self.kept / self.num if self.num else None

    def __add__(self, other: FactCount) -> FactCount:
        return FactCount(self.num + other.num, self.kept + other.kept, self.contradicted + other.contradicted)


@dataclass(frozen=True)
class Facts:
    """The three kinds; `contradicted` of prohibitions also counts affirmations that the answer negates."""

    amounts: FactCount
    names: FactCount
    prohibitions: FactCount

    @property
    def all(self) -> FactCount:
        """The three together."""
        return self.amounts + self.names + self.prohibitions


@dataclass(frozen=True)
class _Clause:
    """`content`: its terms without amounts and negations."""

    amounts: tuple[Amount, ...]
    content: frozenset[str]
    negative: bool

    def takes_up(self, other: _Clause) -> float:
        """The share of the other's content that this one has; 0 where there is too little to tell."""
        if len(other.content) < _MIN_TERMS:
            return 0.0
        return len(self.content & other.content) / len(other.content)


def compare_facts(answer: str, reference: str) -> Facts:
    """Count the facts of `reference` in `answer`; both without citation markers."""
    said, wanted = _clauses(answer), _clauses(reference)
    return Facts(
        _count_amounts(said, wanted), _count_names(answer, reference), _count_prohibitions(said, wanted)
    )


def _clauses(text: str) -> list[_Clause]:
    found = []
    for part in _CLAUSE_END.split(normalised(text)):
        for piece in _BUT.split(part):
            stripped = _NOT_NEGATIVE.sub(" ", piece)
            negative = _NEGATIVE.search(stripped) is not None
            content = frozenset(terms(_NEGATIVE.sub(" ", _EACH.sub(" ", without_amounts(piece)))))
            held = tuple(amounts(piece))
            if content or held:
                found.append(_Clause(held, content, negative))
    return found


def _count_amounts(said: Sequence[_Clause], wanted: Sequence[_Clause]) -> FactCount:
    known = {amount for clause in said for amount in clause.amounts}
    seen: dict[Amount, bool] = {}
    for clause in wanted:
        for amount in clause.amounts:
            if amount not in known:
                seen[amount] = seen.get(amount, False) or any(
                    _has_another(other, amount) and _same_matter(other, clause) for other in said
                )
            else:
                seen[amount] = False
    kept = sum(amount in known for amount in seen)
    return FactCount(len(seen), kept, sum(seen.values()))


def _has_another(clause: _Clause, amount: Amount) -> bool:
    return any(other.unit == amount.unit and other.value != amount.value for other in clause.amounts)


def _same_matter(said: _Clause, wanted: _Clause) -> bool:
    """Tell whether two clauses speak of one thing; a clause of little but an amount does by its unit alone."""
    if len(wanted.content) < _MIN_TERMS:
        return wanted.content <= said.content
    return said.takes_up(wanted) >= _ALIKE


def _count_names(answer: str, reference: str) -> FactCount:
    wanted = names(reference)
    text = normalised(answer)
    kept = sum(name in text for name in wanted)
    return FactCount(len(wanted), kept, 0)


def _count_prohibitions(said: Sequence[_Clause], wanted: Sequence[_Clause]) -> FactCount:
    num = kept = contradicted = 0
    for clause in wanted:
        alike = [other for other in said if other.takes_up(clause) >= _ALIKE]
        num += clause.negative
        if any(other.negative == clause.negative for other in alike):
            kept += clause.negative
        elif alike:
            contradicted += 1
    return FactCount(num, kept, contradicted)
