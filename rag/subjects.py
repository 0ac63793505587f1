"""What the rows are about, and whether a question says so: learned from the workbook's columns, not from a list.

One of the two columns info_1 and info_2 names the subject (an illness, a drug, a product), the other a department or
an aspect. Which one is seen from the questions: they repeat their subject. Pure text, no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data.records import Row, normalised
from rag.terms import has_cjk, terms

# A column names subjects when at least so many of the rows' questions repeat it.
_REPEATED = 0.2
# Of the rows that say a term of a subject's name, so many must be about it: "vaccine" tells little.
_TELLING = 0.6
# A term that is no part of the name belongs to a subject when so many of its rows say it, and few others do.
_SAID_THROUGHOUT = 0.5
_SAID_ELSEWHERE = 0.25
_FEWEST_ROWS = 3
_MOST_READ = 5000


@dataclass(frozen=True)
class Subjects:
    """The terms that name a subject of the knowledge base; without any, nothing is recognised."""

    names: frozenset[str] = frozenset()

    def mentions(self, question: str) -> tuple[str, ...]:
        """Return what names a subject in `question`, in order and as normalised text: 糖尿病, shingles vaccine."""
        found: list[str] = []
        joins = False
        for term in terms(question):
            if term not in self.names:
                joins = False
                continue
            cjk = has_cjk(term)
            if joins and cjk and len(term) == 2 and found[-1][-1:] == term[0]:
                found[-1] += term[1]
            else:
                found.append(term)
            joins = True
        return tuple(dict.fromkeys(found))


def strangers(asked: str, rows: Sequence[Row], nearest: int, subjects: Subjects) -> frozenset[int]:
    """Return the places of the rows that are about another subject than `asked`.

    Where `asked` names a subject and the nearest row says it, those are the rows that say nothing of it; otherwise
    there are none.
    """
    named = {term for term in terms(asked) if term in subjects.names}
    said = [named & _all_terms(row) | named & set(terms(f"{row.info_1} {row.info_2}")) for row in rows]
    if not rows or not said[nearest]:
        return frozenset()
    return frozenset(place for place, some in enumerate(said) if not some)


def subjects_of(rows: Sequence[Row]) -> Subjects:
    """Return the subjects of `rows`."""
    some = rows[:: max(1, len(rows) // _MOST_READ)]
    columns = ([row.info_1 for row in some], [row.info_2 for row in some])
    repeated = [_share_repeated(column, some) for column in columns]
    if not some or max(repeated) < _REPEATED:
        return Subjects()
    name = "info_1" if repeated[0] >= repeated[1] else "info_2"
    groups: dict[str, list[Row]] = {}
    for row in some:
        groups.setdefault(normalised(getattr(row, name)), []).append(row)
    found = _name_terms(groups)
    anywhere = Counter(term for row in some for term in _all_terms(row))
    for about_it in groups.values():
        found |= _terms_throughout(about_it, anywhere)
    return Subjects(frozenset(term for term in found if not term.isdecimal()))


def _name_terms(groups: Mapping[str, Sequence[Row]]) -> set[str]:
    """Return the terms of subjects' names that questions repeat, and that other questions hardly say."""
    said: Counter[str] = Counter()
    said_of_it: Counter[str] = Counter()
    num_rows: Counter[str] = Counter()
    for subject, rows in groups.items():
        name = set(terms(subject))
        asked = Counter(term for row in rows for term in set(terms(row.question)))
        said += asked
        said_of_it += Counter({term: asked[term] for term in name})
        num_rows += Counter(dict.fromkeys(name, len(rows)))
    return {
        term
        for term, count in said_of_it.items()
        if count >= _TELLING * said[term] and count >= _REPEATED * num_rows[term]
    }


def _terms_throughout(rows: Sequence[Row], anywhere: Mapping[str, int]) -> set[str]:
    """Return what the rows of one subject say throughout and others hardly do: 降压 where it is 高血压."""
    if len(rows) < _FEWEST_ROWS:
        return set()
    said = Counter(term for row in rows for term in _all_terms(row))
    least = max(_FEWEST_ROWS, _SAID_THROUGHOUT * len(rows))
    return {
        term
        for term, count in said.items()
        if count >= least and count >= (1 - _SAID_ELSEWHERE) * anywhere[term]
    }


def _all_terms(row: Row) -> set[str]:
    return set(terms(f"{row.question}\n{row.answer}"))


def _share_repeated(column: Iterable[str], rows: Sequence[Row]) -> float:
    """Return the share of the rows whose question holds the cell of the column."""
    names = [normalised(value) for value in column]
    held = [bool(name) and name in normalised(row.question) for name, row in zip(names, rows, strict=True)]
    return sum(held) / max(1, len(held))
