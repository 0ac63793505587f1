"""Which of the rows that were found ground an answer, and how much of them is shown: no twice-told rows, a budget.

A workbook holds the same answer under several questions, and three rows that say one thing leave no room for a
second. A long row makes a prompt slow on a CPU and may not fit an engine's context at all.

Knows no prompt's wording but that of a row, and no engine: only its tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from data.prompts import estimated_tokens
from data.records import Row
from data.similarity import Grams, plain_grams, similarity
from rag.config import RetrieveSection
from rag.stages import Hit

SPARE = 5
"""So many rows more are searched for than are shown, to take the place of those that repeat another."""
_SENTENCE_ENDS = re.compile(r"[。！？!?；;\n]|\.(?=\s)")
_CUT = "……"

Count = Callable[[str], int]


@dataclass(frozen=True)
class Chosen:
    """The hits that ground an answer, best first; `shown` holds their rows as the model is to see them."""

    hits: tuple[Hit, ...]
    shown: tuple[Row, ...]


@dataclass(frozen=True)
class Selection:
    """How rows are chosen.

    Attributes:
        top_k: At most so many.
        alike: Of rows whose answers have this Jaccard similarity or more, the best one is taken; None: all are.
        budget: Tokens of all rows together, as the prompt has them; None: any.
        count: Counts a text's tokens.
    """

    top_k: int = 3
    alike: float | None = None
    budget: int | None = None
    count: Count = estimated_tokens

    @property
    def num_searched(self) -> int:
        """How many rows to search for, so that enough are left to choose from."""
        return self.top_k + (
            SPARE if self.top_k > 1 and (self.alike is not None or self.budget is not None) else 0
        )

    def choose(self, hits: Sequence[Hit], as_shown: Callable[[Row], str]) -> Chosen:
        """Choose among `hits`, best first. The best one is always taken, cut where it alone is over the budget.

        Args:
            as_shown: A row's text in the prompt.
        """
        taken: list[Hit] = []
        shown: list[Row] = []
        left = self.budget
        for hit in hits:
            if len(taken) == self.top_k:
                break
            if self._repeats(hit.row, taken):
                continue
            row = hit.row
            if left is not None:
                needed = self._tokens(as_shown(row), left)
                if needed > left and taken:
                    # A shorter one further down may still fit.
                    continue
                if needed > left:
                    row = self._cut(row, left, as_shown)
                    needed = left
                left -= needed
            taken.append(hit)
            shown.append(row)
        return Chosen(tuple(taken), tuple(shown))

    def _repeats(self, row: Row, taken: Sequence[Hit]) -> bool:
        if self.alike is None or not taken:
            return False
        answer = _grams(row.answer)
        return any(similarity(answer, _grams(hit.row.answer)) >= self.alike for hit in taken)

    def _tokens(self, text: str, left: int) -> int:
        # A token is one byte at the least: a text of few bytes is known to fit without counting.
        num_bytes = len(text.encode())
        return num_bytes if num_bytes <= left else self.count(text)

    def _cut(self, row: Row, budget: int, as_shown: Callable[[Row], str]) -> Row:
        """Return the row with as much of its answer as fits, whole sentences where one does."""
        low, high = 0, len(row.answer)
        while low < high:
            middle = (low + high + 1) // 2
            text = as_shown(replace(row, answer=row.answer[:middle] + _CUT))
            low, high = (middle, high) if self.count(text) <= budget else (low, middle - 1)
        ends = [found.end() for found in _SENTENCE_ENDS.finditer(row.answer, 0, low)]
        return replace(row, answer=row.answer[: ends[-1] if ends else low].rstrip() + _CUT)


class TokenCounter:
    """Counts with a model's own tokenizer.json, which is read when first needed; safe to use from any thread."""

    def __init__(self, tokenizer: Path) -> None:
        self._path = tokenizer
        self._tokenizer: Any = None
        self._lock = Lock()

    def __call__(self, text: str) -> int:
        """Return how many tokens a text has, without any that a template puts around it."""
        from tokenizers import Tokenizer

        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer.from_file(str(self._path))
            return len(self._tokenizer.encode(text, add_special_tokens=False))


def selection_of(settings: RetrieveSection, tokenizer: Path | None) -> Selection:
    """Return what the configuration asks for; `tokenizer` is the tokenizer.json of the model asked, if one is here."""
    return Selection(
        settings.top_k,
        alike=settings.max_similarity,
        budget=settings.context_tokens,
        count=estimated_tokens if tokenizer is None else TokenCounter(tokenizer),
    )


@lru_cache(maxsize=4096)
def _grams(answer: str) -> Grams:
    return plain_grams(answer)
