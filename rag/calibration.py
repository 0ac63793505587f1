"""What a score means in this knowledge base, learned from nothing but its rows.

Rows are asked their own questions: with everything there, where a row answers word for word; with every row of the
same topic left out, where none does; and with only the row itself left out, which says how near a neighbour comes that
does not answer: whoever exceeds all but one in a hundred of those has found his row.

The first two are the ends of the scales of rag.answerability, on which people's questions lie between, since they word
things their own way. The threshold for giving a row word for word needs no such thing; its guarantee is that of split
conformal prediction (Vovk et al. 2005): a new question like those asked exceeds it with at most the chosen probability,
on average over knowledge bases. Held-out questions are not used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.artefacts import write_json
from data.errors import InputError
from data.records import Row
from rag.answerability import Scale
from rag.leaving_out import LeavingOut, Topics
from rag.lexical import LexicalStage
from rag.terms import terms

# Asking more changes a threshold for one in ten by less than it is uncertain (1.7 points at 300).
_MOST_ASKED = 300
_MOST_FOR_LENGTH = 5000
# Names what the scores are: a threshold on other ones would refuse nearly everything, or nothing.
_SCORES = "evidence and answerability, 4"


@dataclass(frozen=True)
class Calibration:
    """How the workbook's own questions score.

    Attributes:
        usual_terms: Different terms of the median question.
        row_left_out: Their evidence without the question's own row, ascending.
        scales: Where they lie by both sums of rag.answerability.
    """

    usual_terms: float
    row_left_out: tuple[float, ...]
    scales: tuple[Scale, Scale]

    @property
    def is_enough(self) -> bool:
        """Whether the workbook has questions enough to say where another one lies."""
        return any(scale.place(0.0) is not None for scale in self.scales)

    def verbatim_threshold(self, wrong_row_rate: float) -> float | None:
        """Return the score that a wrong row exceeds at most so often; None: too few questions to say."""
        return _threshold(self.row_left_out, wrong_row_rate)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, {"scores": _SCORES, **asdict(self)})


def load_calibration(path: Path) -> Calibration:
    """Read back what `save` wrote.

    Raises:
        InputError: it is not there or is not one.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["scores"] != _SCORES:
            raise ValueError(f"of other scores: {saved['scores']}")
        weighed, plain = (
            Scale(tuple(map(float, scale["own"])), tuple(map(float, scale["topic_left_out"])))
            for scale in saved["scales"]
        )
        row_left_out = tuple(map(float, saved["row_left_out"]))
        return Calibration(float(saved["usual_terms"]), row_left_out, (weighed, plain))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no calibration ({error}); run `groundtune rag index` again") from error


def _threshold(scores: Sequence[float], rate: float) -> float | None:
    """Return the smallest of `scores` (ascending) that a new one of their kind exceeds with probability <= rate."""
    # The +1 stands for the new one, which is as likely as any to be the highest; 1 - 0.98 is a little over 0.02.
    place = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return scores[place - 1] if 1 <= place <= len(scores) else None


def questions_to_ask(rows: Sequence[Row]) -> list[int]:
    """Return the places of the rows that are asked: all, or 300 that hardly change when other rows do."""
    # Ids are hashes, so the smallest are a random choice, and a new row displaces one of them at most.
    by_id = sorted(range(len(rows)), key=lambda place: rows[place].row_id)
    return [place for place in by_id if rows[place].question.strip()][:_MOST_ASKED]


def calibrate(
    rows: Sequence[Row],
    vectors: NDArray[np.float32],
    lexical: LexicalStage,
    spread: float,
    asked: Sequence[int],
    asked_vectors: NDArray[np.float32],
) -> Calibration:
    """Ask the questions of the rows at places `asked` and keep their scores.

    `vectors` (len(rows), dims) are the rows', `asked_vectors` (len(asked), dims) those of the questions, both
    L2-normalised; `spread` is the standard deviation of the cosines between rows.
    """
    usual_terms = usual_terms_of(rows)
    leaving_out = LeavingOut(rows, vectors, lexical, spread, usual_terms)
    topics = Topics(rows, vectors)
    own, row_left_out, topic_left_out = [], [], []
    for place, vector in zip(asked, asked_vectors, strict=True):
        question = leaving_out.ask(rows[place].question, vector)
        own.append(question.sums())
        row_left_out.append(question.evidence([place]))
        topic_left_out.append(question.sums(topics.of(place)))
    weighed, plain = (
        Scale(*(_ascending(sums[kind] for sums in some) for some in (own, topic_left_out))) for kind in (0, 1)
    )
    return Calibration(usual_terms, _ascending(row_left_out), (weighed, plain))


def _ascending(scores: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(filter(math.isfinite, scores)))


def usual_terms_of(rows: Sequence[Row]) -> float:
    """Return the number of different terms of the median question."""
    some = rows[:: max(1, len(rows) // _MOST_FOR_LENGTH)]
    return max(1.0, float(np.median([len(set(terms(row.question))) for row in some])))
