"""Citation markers in a streamed answer: checked, corrected and added, while the text itself goes through unchanged.

- A marker (rag.markers) is written `[n]`; one that names no row is dropped with a blank beside it.
- A marker belongs to the sentence before it, also when it follows the full stop; one at the start of a line
  belongs to the sentence it introduces. Both are written at that sentence's end, before its final punctuation.
- A marker whose sentence another row says clearly better (rag.support has the figures) is corrected to that row.
- A statement without a marker gets that of the row that says it, unless the sentence before came from the same
  row: a run of sentences from one row is marked at its first, which a stream can do without looking ahead.

The writer works character by character, so how the text was cut into pieces cannot matter. Pure text, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.records import Row
from rag.markers import Code, Marker, MarkerScanner, Token
from rag.support import SUPPORTED, Support, SupportMeter

_ENDERS = "。！？；!?;."
_CLOSERS = "”’」』）)】］]\"'…"
_BLANKS = " \t\u3000"
_LINE_START = re.compile(r"\s*(?:[-*+•>#]+|\d{1,2}[.、)）]?)?\s*")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[a-z]|e\.g|i\.e|cf|vs|dr|mr|mrs|ms|no|fig|approx)$", re.IGNORECASE)


@dataclass(frozen=True)
class Citation:
    """A marker in the emitted text.

    `start` and `end` are offsets of "[n]" in Unicode code points. `attributed`: the model did not name this row;
    the marker was added or corrected because the row's text supports the sentence.
    """

    marker: int
    row: Row
    start: int
    end: int
    attributed: bool


class CitationWriter:
    """Turns a model's text, fed in pieces, into the text to send and its citations.

    Holds back only an unfinished marker, blanks, and a sentence's final punctuation.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = tuple(rows)
        self._meter = SupportMeter(self._rows)
        self._scanner = MarkerScanner()
        self._citations: list[Citation] = []
        self._out: list[str] = []
        self._length = 0
        # Held back. A tail that has a marker in it ends its sentence, whatever follows.
        self._blanks = ""
        self._skips_blank = False
        self._tail = ""
        self._tail_is_end = False
        # The sentence so far without markers, the part of it since its last marker, the places of the
        # rows named in it, and of those to be written at its end.
        self._sentence = ""
        self._segment = ""
        self._named: list[int] = []
        self._waiting: list[int] = []
        # Places just written, with no text since; and of the row that the last sentence came from.
        self._adjacent: set[int] = set()
        self._run: int | None = None

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The markers written so far, in text order."""
        return tuple(self._citations)

    def feed(self, delta: str) -> str:
        """Take the next piece of the model's text; return what may be sent now."""
        for character in delta:
            self._take(self._scanner.take(character))
        return self._sent()

    def finish(self) -> str:
        """Return the rest; the text ends here."""
        self._take(self._scanner.finish())
        if self._scanner.in_code:
            # Code that was never closed: a marker would become part of it.
            return self._sent()
        self._end_sentence()
        for place in dict.fromkeys(self._waiting):
            self._write_marker(place, attributed=False)
        self._waiting.clear()
        return self._sent()

    def _sent(self) -> str:
        text = "".join(self._out)
        self._out.clear()
        return text

    def _take(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            if isinstance(token, Marker):
                self._mark([number - 1 for number in token.numbers if 0 < number <= len(self._rows)])
            elif isinstance(token, Code):
                self._settle_tail(token.character)
                self._say(token.character)
            else:
                self._plain(token)

    def _plain(self, character: str) -> None:
        if character == "\n":
            self._end_sentence()
            self._write(character)
            return
        if self._tail:
            if character in _ENDERS or character in _CLOSERS or character in _BLANKS:
                self._tail += character
                return
            self._settle_tail(character)
        if character in _BLANKS:
            if not self._skips_blank:
                self._blanks += character
        elif character in _ENDERS:
            self._tail, self._blanks = self._blanks + character, ""
        else:
            self._say(character)

    def _mark(self, places: list[int]) -> None:
        """Take a marker: write it here, or let it wait for the sentence's end."""
        if self._tail:
            self._tail = self._tail.rstrip(_BLANKS)
            self._tail_is_end = True
            self._waiting += places
        elif _LINE_START.fullmatch(self._sentence):
            # Leaves one of the blanks on its two sides, and none at the start of the line.
            self._skips_blank = bool(self._blanks) or not self._sentence
            self._waiting += places
        else:
            support = self._meter.measure(self._segment)
            if not support.is_judged:
                support = self._meter.measure(self._sentence)
            before = self._length
            for place in places:
                self._write_settled(place, support)
            if self._length == before:
                self._blanks = ""

    def _write_settled(self, place: int, support: Support) -> None:
        """Write the marker of row `place`, or of the row that says it clearly better, unless it stands here."""
        better = support.better_than(place)
        chosen = place if better is None else better
        if chosen not in self._adjacent:
            self._write_blanks()
            self._write_marker(chosen, attributed=better is not None)

    # Sentences

    def _settle_tail(self, character: str) -> None:
        """Decide, now that `character` follows the held punctuation, whether it ends the sentence."""
        if not self._tail:
            return
        if self._tail_is_end or self._ends_before(character):
            self._end_sentence()
        else:
            self._say(self._tail)
            self._tail = ""

    def _ends_before(self, character: str) -> bool:
        """ASCII punctuation in numbers, addresses, abbreviations and before list items ends no sentence."""
        if not self._tail.isascii():
            return True
        if self._tail.strip() == "." and (
            _LINE_START.fullmatch(self._sentence) or _ABBREVIATION.search(self._sentence)
        ):
            return False
        return self._tail[-1] in _BLANKS or not character.isascii()

    def _end_sentence(self) -> None:
        """Write the markers that belong at the sentence's end, then what was held back."""
        if not _LINE_START.fullmatch(self._sentence):
            self._cite_sentence(self._meter.measure(self._sentence))
            self._waiting.clear()
            self._named.clear()
        tail, self._tail, self._tail_is_end = self._tail, "", False
        self._write(tail)
        self._write_blanks()
        self._sentence = self._segment = ""
        self._skips_blank = False

    def _cite_sentence(self, support: Support) -> None:
        blanks, self._blanks = self._blanks, ""
        for place in self._waiting:
            better = support.better_than(place)
            if (place if better is None else better) not in self._named:
                self._write_settled(place, support)
        best = support.best
        if best is not None and self._named:
            if all(support.better_than(place) == best for place in self._named):
                self._write_marker(best, attributed=True)
        elif best is not None and not self._goes_on(support) and not self._is_question():
            self._write_marker(best, attributed=True)
        if self._named:
            self._run = self._named[-1]
        elif best is None and support.is_judged:
            self._run = None
        self._blanks = blanks

    def _is_question(self) -> bool:
        """Tell whether the sentence asks: then it repeats a row's question at most, and says nothing."""
        return any(character in "?？" for character in self._tail)

    def _goes_on(self, support: Support) -> bool:
        """Tell whether the sentence may as well come from the row of the sentence before."""
        run = self._run
        return run is not None and support.shares[run] >= SUPPORTED and support.better_than(run) is None

    # Output

    def _say(self, text: str) -> None:
        """Write text of the sentence, after the blanks before it."""
        text, self._blanks, self._skips_blank = self._blanks + text, "", False
        self._sentence += text
        self._segment += text
        self._write(text)

    def _write_blanks(self) -> None:
        self._write(self._blanks)
        self._blanks = ""

    def _write(self, text: str) -> None:
        if text:
            self._out.append(text)
            self._length += len(text)
            self._adjacent.clear()

    def _write_marker(self, place: int, *, attributed: bool) -> None:
        text = f"[{place + 1}]"
        end = self._length + len(text)
        self._citations.append(Citation(place + 1, self._rows[place], self._length, end, attributed))
        self._out.append(text)
        self._length = end
        self._adjacent.add(place)
        self._named.append(place)
        self._segment = ""
