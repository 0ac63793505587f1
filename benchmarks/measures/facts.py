"""Which facts of a reference an answer keeps, and which it contradicts: amounts, names of medicines, prohibitions.

Wording may change freely, these may not: 每天两次 and 每天三次 are alike and one of them is wrong.

- An amount is a number with its unit (`benchmarks.measures.amounts`). It is contradicted when the answer speaks of
  the same thing, in a clause that is otherwise alike, with another number of the same unit.
- A name is a Latin word in Chinese text, or a medicine's name by its stem (`benchmarks.measures.medicines`).
  It is kept or not; nothing contradicts it.
- A prohibition is a clause with a negation. It is kept by a clause of the answer that is alike and negated too, and
  contradicted by one that is alike and permits or advises it (可以, should); the other way round as well. A clause
  that neither negates nor permits (饮酒会加重病情) contradicts nothing.

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
    "特别|分别|区别|差别|性别|类别|级别|个别|鉴别|识别|别的|非常|除非|不仅|不但|不同|不适感?|不良|不足|不全|不稳|不久|不断|不管|不论|不妨|不过|不得不|无论|未来|无菌|无力|免疫|"
    "能不能|可不可以|是不是|有没有|要不要|会不会|\\bnot only\\b|\\bno matter\\b"
)
_NEGATIVE = re.compile(
    "不|勿|禁|忌|别再?|避免|切莫|没有|无需|无须|未|停用|慎用|非|"
    r"\b(?:not|no|never|without|avoid|neither|nor|cannot|contraindicated|stop|none)\b|n't\b"
)
_PERMITS = re.compile(
    "可以|可|能够?|应该?|应当|建议|需要?|必须|宜|适宜|要|提倡|推荐|"
    r"\b(?:can|may|should|must|could|recommended|advised|safe|need|needs|have to|has to|ok|okay|allowed)\b"
)
# Belongs to an amount, whichever way it is put.
_EACH = re.compile(r"[每一][日天次]|\b(?:per|each|every|an?) (?:day|dose|time)\b|\bdaily\b")
_ALIKE = 0.6
"""From this share of its terms on, a clause of the reference is taken up by a clause of the answer."""
_MIN_TERMS = 2
"""Below this a clause is too short to tell by its words alone what it speaks of."""


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
    """`content`: its terms without amounts, negations and permissions."""

    amounts: tuple[Amount, ...]
    content: frozenset[str]
    negative: bool
    permits: bool

    def takes_up(self, other: _Clause) -> bool:
        """Tell whether this one has most of the other's content."""
        if not other.content:
            return False
        return len(self.content & other.content) / len(other.content) >= _ALIKE

    def contradicts(self, other: _Clause) -> bool:
        """Tell whether one of the two forbids what the other permits."""
        return (self.negative and other.permits) or (self.permits and other.negative)


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
            plain = _EACH.sub(" ", without_amounts(piece))
            content = frozenset(terms(_PERMITS.sub(" ", _NEGATIVE.sub(" ", plain))))
            held = tuple(amounts(piece))
            if content or held:
                permits = not negative and _PERMITS.search(stripped) is not None
                found.append(_Clause(held, content, negative, permits))
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
    return said.takes_up(wanted)


def _count_names(answer: str, reference: str) -> FactCount:
    wanted = names(reference)
    text = normalised(answer)
    kept = sum(name in text for name in wanted)
    return FactCount(len(wanted), kept, 0)


def _count_prohibitions(said: Sequence[_Clause], wanted: Sequence[_Clause]) -> FactCount:
    num = kept = contradicted = 0
    for clause in wanted:
        alike = [other for other in said if other.takes_up(clause)]
        num += clause.negative
        if any(other.contradicts(clause) for other in alike):
            contradicted += 1
        elif clause.negative and any(other.negative for other in alike):
            kept += 1
    return FactCount(num, kept, contradicted)
