"""How far the words of a row support a sentence. Pure text; knows nothing of markers or streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.records import Row
from rag.terms import has_cjk, terms

SUPPORTED = 0.6
"""From this share of its terms on, a sentence counts as said by a row."""
CLEARLY = 0.3
"""By this much a row must exceed another to be called the better one."""
_MIN_TERMS = 3

# Characters and words that any sentence holds; a bigram with one of them says nothing of where it comes from.
_STOP_CHARACTERS = re.compile("[的了是在和与及或也就都而着吗呢吧啊呀您你我他她它们这那]")
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by can could do does for from has have he her his i if in is it its may my of "
        "on or our she should so such than that the their them then there these they this to was we were what "
        "when which will with would you your",
    )
)


@dataclass(frozen=True)
class Support:
    """Each row's share (0 to 1, in row order) of a sentence's telling terms."""

    num_terms: int
    shares: tuple[float, ...]

    @property
    def is_judged(self) -> bool:
        """Whether the sentence is long enough to say anything ("您好！" is not)."""
        return self.num_terms >= _MIN_TERMS

    @property
    def best(self) -> int | None:
        """The place of the row that says this sentence, if one does; the first of equals."""
        if not self.is_judged or not self.shares:
            return None
        place = self.shares.index(max(self.shares))
        return place if self.shares[place] >= SUPPORTED else None

    def better_than(self, place: int) -> int | None:
        """The place of the row that says this sentence clearly better than row `place`, if one does."""
        best = self.best
        if best is None or self.shares[best] - self.shares[place] < CLEARLY:
            return None
        return best


class SupportMeter:
    """Measures sentences against rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._row_terms = [
            frozenset(terms(f"{row.info_1}\n{row.info_2}\n{row.question}\n{row.answer}")) for row in rows
        ]

    def measure(self, sentence: str) -> Support:
        """Return how far each row supports `sentence`."""
        telling = {term for term in terms(sentence) if _is_telling(term)}
        if not telling:
            return Support(0, tuple(0.0 for _ in self._row_terms))
        return Support(len(telling), tuple(len(telling & held) / len(telling) for held in self._row_terms))


def _is_telling(term: str) -> bool:
    if has_cjk(term):
        return _STOP_CHARACTERS.search(term) is None
    return term not in _STOP_WORDS
