"""From a conversation to what the engine is asked: the rows that were found, with markers, and the rules.

The order decides how much of a prompt an engine's prefix cache can reuse: the fixed rules first, then the rows in
the order of their ids, earlier turns, and the question last. Knows no HTTP and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.prompts import wording_for
from data.records import Row
from rag.answers import related
from rag.filters import RowFilter
from rag.follow_up import Searcher, search_in_turn
from rag.selection import Selection
from rag.stages import Search
from rag.subjects import Subjects, strangers

# On the scale of rag.answerability: most questions of other subjects lie lower.
_WORTH_NAMING = 0.1


@dataclass(frozen=True)
class Grounding:
    """What to ask the engine, and the rows that its answer may cite.

    Attributes:
        rows: Marker `[n]` names `rows[n - 1]`.
        scores: The rows' fused scores, in the order of `rows`.
        messages: To be sent in place of the client's.
        timings_ms: By part ("embed", "retrieve").
        kb_version: The index's version.
        searched: What was searched for: the question, understood in its conversation.
        refusal: If not None, the answer; the engine is not asked.
        quotable: The place in `rows` of the nearest one, if it may be quoted should the engine's answer have no
            source among the rows.
        strangers: The places of rows about another subject than the question's; an answer from them alone is none.
        rival: The place of the second nearest, where its score says as much for it as for the nearest.
        verbatim: The place of the row whose answer is to be given as it stands; the engine is not asked.
        nearest: The id of the nearest row, "" where there is none.
        led_to: The place of the row that the refusal names.
    """

    rows: tuple[Row, ...]
    scores: tuple[float, ...]
    messages: tuple[Mapping[str, Any], ...]
    timings_ms: Mapping[str, float]
    kb_version: str
    searched: str
    refusal: str | None
    quotable: int | None = None
    strangers: frozenset[int] = frozenset()
    rival: int | None = None
    verbatim: int | None = None
    nearest: str = ""
    led_to: int | None = None


class Grounder:
    """Grounds conversations in an index; safe to use from any thread.

    Args:
        index: Where rows are found.
        system_prompt: The knowledge base's own; comes first.
        selection: Which of the rows found ground an answer.
        refuse_below: Refuse when the best row's score is lower; None: only when there is no row.
        quote_unsupported: Allow the nearest rows to be quoted in place of an answer without a source.
        subjects: What the rows are about, to understand follow-up questions by.
    """

    def __init__(
        self,
        index: Searcher,
        *,
        system_prompt: str = "",
        selection: Selection | None = None,
        refuse_below: float | None = None,
        quote_unsupported: bool = True,
        subjects: Subjects | None = None,
    ) -> None:
        self._index = index
        self._system_prompt = system_prompt.strip()
        self._selection = selection or Selection()
        self._refuse_below = refuse_below
        self._quote_unsupported = quote_unsupported
        self._subjects = subjects or Subjects()

    def ground(self, messages: Sequence[Mapping[str, Any]], only: RowFilter | None = None) -> Grounding:
        """Find rows for the last user message and build what to ask the engine; `only` limits the rows.

        A message that leans on earlier ones ("那饮食方面呢？") is understood with them (rag.conversation). System
        messages of the client are kept, after the fixed rules.

        Raises:
            ValueError: no user message has text.
            InputError: `only` leaves no row.
        """
        asked = [text_of(message) for message in messages if message.get("role") == "user"]
        if not asked or not asked[-1].strip():
            raise ValueError("no user message with text to ground an answer in")
        question = asked[-1]
        searched, found = search_in_turn(
            self._index, asked, self._subjects, self._selection.num_searched, only
        )
        chosen = self._selection.choose(found.hits, wording_for(searched).row_text)
        pairs = sorted(zip(chosen.hits, chosen.shown, strict=True), key=lambda pair: pair[0].row.row_id)
        hits = [hit for hit, _ in pairs]
        rows = tuple(hit.row for hit in hits)
        best = max((hit.score for hit in hits), default=None)
        # The second of two that may be meant is not among the chosen where it says the same as the first.
        nearest = [hits.index(hit) for hit in found.hits[: found.num_best] if hit in hits]
        weak = best is not None and self._refuse_below is not None and best < self._refuse_below
        refused = best is None or weak or found.is_doubtful
        led_to = _led_to(searched, rows, nearest, found) if refused else None
        refusal = wording_for(question).refused(None if led_to is None else rows[led_to])
        return Grounding(
            rows=rows,
            scores=tuple(hit.score for hit in hits),
            messages=tuple(self._engine_messages(messages, [row for _, row in pairs], searched, nearest)),
            timings_ms=found.timings_ms,
            kb_version=self._index.version,
            searched=searched,
            refusal=refusal if refused else None,
            quotable=self._quotable(searched, rows, nearest),
            strangers=strangers(searched, rows, nearest[0], self._subjects) if nearest else frozenset(),
            rival=nearest[1] if len(nearest) > 1 else None,
            verbatim=nearest[0] if found.is_verbatim and nearest else None,
            nearest=found.hits[0].row.row_id if found.hits else "",
            led_to=led_to,
        )

    def _quotable(self, asked: str, rows: Sequence[Row], nearest: Sequence[int]) -> int | None:
        if self._quote_unsupported and nearest and related(asked, rows, nearest[0]):
            return nearest[0]
        return None

    def _engine_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        rows: Sequence[Row],
        asked: str,
        nearest: Sequence[int],
    ) -> list[Mapping[str, Any]]:
        wording = wording_for(asked)
        clients = [text_of(message) for message in messages if message.get("role") in ("system", "developer")]
        system = wording.system(self._system_prompt, rows, clients)
        turns = [message for message in messages if message.get("role") not in ("system", "developer")]
        if nearest:
            last = max(place for place, message in enumerate(turns) if message.get("role") == "user")
            turns[last] = {**turns[last], "content": wording.pointing(asked, rows[nearest[0]])}
        return [{"role": "system", "content": system}, *turns]


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text: its content, or the text parts of it joined by newlines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return "\n".join(part for part in parts if isinstance(part, str))


def _led_to(searched: str, rows: Sequence[Row], nearest: Sequence[int], found: Search) -> int | None:
    """Return the place of the row that may be what a refused question means; None where that is unlikely."""
    if not nearest:
        return None
    is_likelier_than_most = found.answerability is not None and found.answerability > _WORTH_NAMING
    return nearest[0] if is_likelier_than_most or related(searched, rows, nearest[0]) else None
