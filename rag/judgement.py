"""Whether what was found is good enough: to be answered with at all, or to be given word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.records import Row, normalised
from rag.answerability import Answerability
from rag.calibration import Calibration
from rag.evidence import weigh
from rag.fusion import Rankings
from rag.signs import Background
from rag.stages import Hit, Query


@dataclass(frozen=True)
class Judgement:
    """What a search's result is worth.

    Attributes:
        evidence: The score of rag.evidence; None where nothing was found.
        answerability: The place on the workbook's scale of rag.answerability; None where nothing was found or the
            workbook has too few rows.
        is_doubtful: That is below the threshold: better no answer than one from these rows.
        is_verbatim: The first hit answers this very question, so that its cell may be given as it stands.
    """

    evidence: float | None
    answerability: float | None
    is_doubtful: bool
    is_verbatim: bool


class Judge:
    """Compares what speaks for an answer with the knowledge base's own thresholds.

    Args:
        calibration: The index's.
        background: What the signs of an answer are measured against.
        answerability: What the signs weigh.
        rows: All, by their ids.
        gain: What a BM25 score of 1 is worth on the scale of a cosine.
        wrong_answer_rate: How often an unanswerable question may be answered; None: nothing is doubtful.
        wrong_row_rate: How often a row may be given word for word for a question that it does not answer; None:
            no row is.
    """

    def __init__(
        self,
        calibration: Calibration,
        background: Background,
        answerability: Answerability,
        rows: Mapping[str, Row],
        gain: float,
        *,
        wrong_answer_rate: float | None = None,
        wrong_row_rate: float | None = None,
    ) -> None:
        self._usual_terms = calibration.usual_terms
        self._background = background
        self._answerability = answerability
        self._rows = rows
        self._gain = gain
        self._may_quote = wrong_row_rate is not None
        self._scales = calibration.scales
        self.answer_from = (
            answerability.share(wrong_answer_rate)
            if wrong_answer_rate is not None and calibration.is_enough
            else None
        )
        self.verbatim_from = (
            None if wrong_row_rate is None else calibration.verbatim_threshold(wrong_row_rate)
        )

    def judge(
        self, query: Query, rankings: Rankings, depth: int, hits: Sequence[Hit], *, tied: bool
    ) -> Judgement:
        """Judge the hits of a search; `tied`: the second may as well be the one that was asked for."""
        question, dense, lexical = query.text, rankings["dense"], rankings["lexical"]
        found = weigh(
            question,
            dense,
            lexical,
            gain=self._gain,
            usual_terms=self._usual_terms,
            depth=depth,
        )
        signs = self._background.read(question, query.vector, dense, lexical, self._rows)
        if found is None or signs is None or not hits:
            return Judgement(None, None, is_doubtful=self.answer_from is not None, is_verbatim=False)
        place = self._answerability.place(self._answerability.sums(signs), self._scales)
        same = [_letters(hit.row.question) == _letters(question) for hit in hits[:2]]
        once = same[0] and not any(same[1:])
        near = self.verbatim_from is not None and found.score > self.verbatim_from
        agreed = found.row_id == hits[0].row.row_id and not tied
        # The same question twice, with two answers: neither is the answer.
        is_verbatim = self._may_quote and (once or (near and agreed and not any(same)))
        doubtful = self.answer_from is not None and place is not None and place <= self.answer_from
        return Judgement(found.score, place, is_doubtful=doubtful and not any(same), is_verbatim=is_verbatim)


def _letters(text: str) -> str:
    """Return a text's letters and digits: two questions may differ in a question mark and be the same."""
    return "".join(character for character in normalised(text) if character.isalnum())
