"""What a score means in this knowledge base, learned from nothing but its rows.

Rows are asked their own questions. With every row of the same topic left out, no row answers, and the scores say
how near an unanswerable question comes by chance: a threshold above nine tenths of them lets one in ten pass. With
only the row itself left out, they say how near a neighbour comes that does not answer: whoever exceeds all but one
in a hundred of them has found his row.

The guarantee is that of split conformal prediction (Vovk et al. 2005): a new question like those asked exceeds the
threshold with at most the chosen probability, on average over knowledge bases. Held-out questions are not used.
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
from data.records import Row, normalised
from rag.evidence import lexical_share
from rag.lexical import LexicalStage
from rag.terms import terms

# Asking more changes a threshold for one in ten by less than it is uncertain (1.7 points at 300).
_MOST_ASKED = 300
_MOST_FOR_LENGTH = 5000
# A topic may hold so much of the workbook: info_1 is then a subject, not a department of a hospital.
_LARGEST_SUBJECT = 0.05
_LARGEST_PAIR = 0.2
_SMALL = 10
_NEAREST = 0.01


@dataclass(frozen=True)
class Calibration:
    """How the workbook's own questions score; each list ascending.

    Attributes:
        usual_terms: Different terms of the median question.
        own: With all rows there.
        row_left_out: Without the question's own row.
        topic_left_out: Without every row of its topic.
    """

    usual_terms: float
    own: tuple[float, ...]
    row_left_out: tuple[float, ...]
    topic_left_out: tuple[float, ...]

    def answer_threshold(self, wrong_answer_rate: float) -> float | None:
        """Return the score that an unanswerable question exceeds at most so often; None: too few questions to say."""
        return _threshold(self.topic_left_out, wrong_answer_rate)

    def verbatim_threshold(self, wrong_row_rate: float) -> float | None:
        """Return the score that a wrong row exceeds at most so often; None: too few questions to say."""
        return _threshold(self.row_left_out, wrong_row_rate)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))


def load_calibration(path: Path) -> Calibration:
    """Read back what `save` wrote.

    Raises:
        InputError: it is not there or is not one.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(map(float, saved[name])) for name in ("own", "row_left_out", "topic_left_out")}
        return Calibration(float(saved["usual_terms"]), **lists)
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
    asked: Sequence[int],
    asked_vectors: NDArray[np.float32],
) -> Calibration:
    """Ask the questions of the rows at places `asked` and keep their scores.

    `vectors` (len(rows), dims) are the rows', `asked_vectors` (len(asked), dims) those of the questions, both
    L2-normalised.
    """
    usual_terms = _usual_terms(rows)
    leaving_out = LeavingOut(rows, vectors, lexical, usual_terms)
    answers = [
        leaving_out.ask(rows[place].question, vector, place)
        for place, vector in zip(asked, asked_vectors, strict=True)
    ]
    return Calibration(
        usual_terms,
        own=_ascending(each.own for each in answers),
        row_left_out=_ascending(each.row_left_out for each in answers),
        topic_left_out=_ascending(each.topic_left_out for each in answers),
    )


def _ascending(scores: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(filter(math.isfinite, scores)))


def _usual_terms(rows: Sequence[Row]) -> float:
    some = rows[:: max(1, len(rows) // _MOST_FOR_LENGTH)]
    return max(1.0, float(np.median([len(set(terms(row.question))) for row in some])))


@dataclass(frozen=True)
class LeftOut:
    """The evidence for an answer with all rows there, without the right one, and without its topic; -inf: no row."""

    own: float
    row_left_out: float
    topic_left_out: float


class LeavingOut:
    """Scores questions against the rows, some of which are left out; the score is that of rag.evidence."""

    def __init__(
        self, rows: Sequence[Row], vectors: NDArray[np.float32], lexical: LexicalStage, usual_terms: float
    ) -> None:
        self._vectors = vectors
        self._lexical = lexical
        self._usual_terms = usual_terms
        self._topics = Topics(rows, vectors)

    def best(self, question: str, vector: NDArray[np.float32]) -> float:
        """Return the score with all rows there; `vector` (dims,) is the question's."""
        return float(self._scores(question, vector).max())

    def ask(self, question: str, vector: NDArray[np.float32], place: int) -> LeftOut:
        """Return the scores of a question that the row at `place` answers."""
        scores = self._scores(question, vector)
        own = float(scores.max())
        scores[place] = -np.inf
        row_left_out = float(scores.max())
        scores[self._topics.of(place)] = -np.inf
        return LeftOut(own, row_left_out, float(scores.max()))

    def _scores(self, question: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        gain = self._lexical.gain * lexical_share(question, self._usual_terms)
        return np.asarray(self._vectors @ vector + gain * self._lexical.scores(question), np.float32)


class Topics:
    """Which rows are about the same as a row.

    Those of the same info_1; where that is a large part of the workbook, those of the same info_1 and info_2;
    where that is too, or both are blank, the hundredth of the rows that is nearest to it.
    """

    def __init__(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._places: dict[tuple[str, ...], list[int]] = {}
        self._keys = [_topic_keys(row) for row in rows]
        for place, keys in enumerate(self._keys):
            for key in keys:
                self._places.setdefault(key, []).append(place)

    def of(self, place: int) -> NDArray[np.intp]:
        """Return the places of the rows of the same topic, its own among them."""
        for key, most in zip(self._keys[place], (_LARGEST_SUBJECT, _LARGEST_PAIR), strict=True):
            same = self._places[key]
            if any(key) and len(same) <= max(_SMALL, most * len(self._keys)):
                return np.array(same, np.intp)
        nearest = max(1, round(len(self._keys) * _NEAREST))
        cosines = self._vectors @ self._vectors[place]
        return np.union1d(np.argsort(-cosines)[:nearest], [place])


def _topic_keys(row: Row) -> tuple[tuple[str, ...], tuple[str, ...]]:
    subject = normalised(row.info_1)
    return (subject,), (subject, normalised(row.info_2))
