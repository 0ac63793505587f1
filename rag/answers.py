"""A grounded answer as it may be shown: cited, and an approved row's words where the model's own have no source.

A small model sometimes repeats the question, answers "yes", makes something up, or copies what a row says of another
illness than the one that was asked about. Such an answer is recognised by no row supporting any sentence of it, or
only rows about another subject, and the nearest rows' approved answers are given in its place. Nothing can be
taken back from a stream, so text is held until a row supports a sentence, or its beginning is clearly a row's answer;
should no sentence have a source after all, the nearest row is led to. Pure text, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from data.prompts import Wording, without_footnotes
from data.records import Row
from rag.citations import Citation, CitationWriter
from rag.support import SupportMeter

_DECLINES = re.compile(
    r"没有(?:提到|提及|提供|包含|说明|给出|涉及|相关|找到|足够|能|直接)|[未无](?:提及|提到|提供|说明|相关)"
    r"|(?:无法|不能)(?:回答|确定|判断|提供|给出)|不知道|不清楚|抱歉"
    r"|(?:not|n['’]t)\s+(?:contain|mention|provide|cover|say|include|have|find|know|answer)"
    r"|\bno\s+(?:information|entry|mention|answer)|\bunable\b|\bsorry\b",
    re.IGNORECASE,
)


_MARKER = re.compile(r"\[\d+\]")
_SENTENCE_START = re.compile(r"[。！？；!?;\n]")
# A beginning of so many telling terms, and so large a share of them in a row's answer, is that row's.
_TERMS_OF_A_BEGINNING = 6
_SHARE_OF_A_BEGINNING = 0.8


class GroundedAnswer:
    """Turns a model's text, fed in pieces, into the answer to send, with its citations.

    Args:
        rows: Marker `[n]` names `rows[n - 1]`.
        quotable: The place of the row that may be quoted; None: the model's text is never replaced or held.
        strangers: The places of rows about another subject, which are no source of an answer.
        see_also: The place of a row to lead to at the end, unless the answer cites it.
        wording: The language of what is added.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        wording: Wording,
        *,
        quotable: int | None = None,
        strangers: Collection[int] = (),
        see_also: int | None = None,
    ) -> None:
        self._rows = tuple(rows)
        self._wording = wording
        self._quotable = quotable
        self._strangers = frozenset(strangers)
        self._see_also = see_also
        self._questions = [_letters(row.question) for row in rows]
        # A question that is said again has the terms of the row's question, not of its answer.
        self._answers = SupportMeter([replace(row, info_1="", info_2="", question="") for row in rows])
        self._writer = CitationWriter(rows)
        self._held = quotable is not None
        self._waiting = self._sent = ""
        self._declined = self._quoted = False
        self._led_on: tuple[Citation, ...] = ()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The markers of the answer so far, in text order."""
        return (*self._writer.citations, *self._led_on)

    @property
    def is_quoted(self) -> bool:
        """Whether a row was quoted in place of the model's text."""
        return self._quoted

    @property
    def is_declined(self) -> bool:
        """Whether the model itself said that it has no answer."""
        return self._declined

    def feed(self, delta: str) -> str:
        """Take the next piece of the model's text; return what may be sent now."""
        return self._passed(self._writer.feed(delta))

    def finish(self, *, is_cut: bool = False) -> str:
        """Return the rest. `is_cut`: the text ends at a limit of the client's, so nothing may be added."""
        rest = self._passed(self._writer.finish())
        whole = self._sent + self._waiting
        self._declined = not self._has_a_source() and declines(whole)
        if is_cut or self._declined:
            return rest + self._waiting
        if self._held and self._quotable is not None:
            rest = self._quote(self._quotable)
        lead_to = self._see_also
        if self._quotable is not None and not self._has_a_source():
            lead_to = self._quotable
        return rest + self._line_to(lead_to, len(self._sent))

    def _passed(self, text: str) -> str:
        """Return what may be sent of `text`, with all that waited once a row supports some of it."""
        before, self._waiting = self._waiting, self._waiting + text
        if self._held:
            self._held = not self._is_supported() and not any(
                # However the text was cut into pieces, the same beginnings are looked at.
                self._begins_as_an_answer(before + text[:end])
                for end in range(1, len(text) + 1)
            )
        if self._held:
            return ""
        text, self._waiting = self._waiting, ""
        self._sent += text
        return text

    def _is_supported(self) -> bool:
        return self._has_a_source() and not self._repeats_a_question(self._waiting)

    def _begins_as_an_answer(self, text: str) -> bool:
        """Tell whether the text's last sentence, so far, is clearly what a row about this subject answers."""
        support = self._answers.measure(_SENTENCE_START.split(text)[-1])
        best = support.best
        return (
            best is not None
            and best not in self._strangers
            and support.num_terms >= _TERMS_OF_A_BEGINNING
            and support.shares[best] >= _SHARE_OF_A_BEGINNING
        )

    def _has_a_source(self) -> bool:
        return any(mark.marker - 1 not in self._strangers for mark in self._writer.citations)

    def _repeats_a_question(self, text: str) -> bool:
        said = _letters(text)
        return any(said in question for question in self._questions)

    def _quote(self, place: int) -> str:
        """Return a row's answer as it was approved, cited, in place of what waited."""
        self._quoted, self._waiting = True, ""
        self._writer = CitationWriter(self._rows)
        approved = without_footnotes(self._rows[place].answer).strip()
        self._sent = self._writer.feed(f"{approved}[{place + 1}]") + self._writer.finish()
        return self._sent

    def _line_to(self, place: int | None, length: int) -> str:
        """Return the line that leads to row `place`, which is to stand after `length` code points."""
        if place is None or any(mark.marker == place + 1 for mark in self._writer.citations):
            return ""
        line = "\n\n" + self._wording.also_see(self._rows[place], place + 1)
        end = length + len(line)
        mark = f"[{place + 1}]"
        self._led_on = (Citation(place + 1, self._rows[place], end - len(mark), end, attributed=True),)
        return line


def declines(text: str) -> bool:
    """Tell whether a text says somewhere that it has no answer."""
    return _DECLINES.search(text) is not None


def related(question: str, rows: Sequence[Row], place: int) -> bool:
    """Tell whether a row shares a telling term with the question: a greeting shares none."""
    return SupportMeter(rows).measure(question).shares[place] > 0


def _letters(text: str) -> str:
    """Return a text's letters and digits only, without markers."""
    return "".join(character for character in _MARKER.sub("", text).lower() if character.isalnum())
