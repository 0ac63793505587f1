"""Training conversations as a grounded model is asked: rows in the prompt, the one that answers among them.

A model that is tuned on bare questions alone unlearns to answer from a prompt (docs/compare.md). Here the others are
rows that a search would find, too: those whose questions have rare words in common with the row's. The prompt is the
one of rag.grounding, and what is learned is to say the right row's answer, in its words.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from data.conversations import Conversation
from data.prompts import estimated_tokens, without_footnotes, wording_for
from data.records import Row, normalised
from data.similarity import Grams, grams

_NUM_ROWS = 3
# Of all rows' text in a prompt, by estimate; a row whose own is longer has no such conversation.
_MOST_TOKENS = 512
# A gram that more rows hold says little, and looking through them all takes long.
_MOST_HOLDING = 64
_RAREST = 12
_DRAWN = 8


def drawn_rows(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """Return about that share of the rows; whether a row is drawn does not depend on the others."""
    return [row for row in rows if random.Random(f"{seed} {row.row_id}").random() < share]


def grounded_conversations(
    rows: Sequence[Row], among: Sequence[Row], system: str, seed: int
) -> list[Conversation]:
    """Return a conversation for each of `rows` that is short enough, in order; the others shown come from `among`."""
    neighbours = _Neighbours(among)
    drawn = random.Random(seed)
    made = []
    for row in rows:
        wording = wording_for(row.question)
        left = _MOST_TOKENS - estimated_tokens(wording.row_text(row))
        if left < 0:
            continue
        shown, answers = [row], {normalised(row.answer)}
        others = [*neighbours.of(row), *drawn.sample(among, min(_DRAWN, len(among)))]
        for other in others:
            size = estimated_tokens(wording.row_text(other))
            # A row that says the same is not shown beside another (rag.selection).
            if len(shown) < _NUM_ROWS and size <= left and normalised(other.answer) not in answers:
                shown.append(other)
                answers.add(normalised(other.answer))
                left -= size
        shown.sort(key=lambda each: each.row_id)
        made.append(
            Conversation(
                row.row_id,
                "grounded",
                wording.system(system, shown),
                wording.pointing(row.question, row),
                without_footnotes(row.answer).strip(),
            )
        )
    return made


class _Neighbours:
    """Rows by the rare grams of their questions and info cells."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._holding: dict[str, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            for gram in _grams(row):
                self._holding[gram].append(place)

    def of(self, row: Row) -> list[Row]:
        """Return the rows that have most in common with `row`, the nearest first, without itself."""
        held = sorted(
            (gram for gram in _grams(row) if 1 < len(self._holding.get(gram, ())) <= _MOST_HOLDING),
            key=lambda gram: (len(self._holding[gram]), gram),
        )
        shared: Counter[int] = Counter()
        for gram in held[:_RAREST]:
            for place in self._holding[gram]:
                shared[place] += 1
        best = sorted(shared, key=lambda place: (-shared[place], place))
        return [self._rows[place] for place in best if self._rows[place].row_id != row.row_id][:_DRAWN]


def _grams(row: Row) -> Grams:
    return grams(f"{row.info_1} {row.info_2} {row.question}")
