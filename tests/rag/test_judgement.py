from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from data.records import Row
from rag.answerability import Answerability, Scale
from rag.calibration import Calibration
from rag.judgement import Judge
from rag.signs import Background, Signs
from rag.stages import Hit, Query, Ranked
from tests.rag.rows import COLD, ROWS, SALT, row

# An unanswerable question exceeds 0.90 once in ten times, half the way from 0.85 to 0.95; a wrong row 0.95 as often.
_CALIBRATION = Calibration(
    8.0,
    (*(0.95 - 0.01 * step for step in range(17, 0, -1)), 0.95, 0.96),
    (Scale((0.95,) * 24, (0.85,) * 24), Scale((), ())),
)
_COSINE_ALONE = Answerability(
    {name: float(name == "cosine") for name in Signs.__dataclass_fields__},
    {},
    unanswerable=(*(0.01 * step for step in range(9)), 0.5),
)


class PlainBackground(Background):
    """One in which a sign of a cosine is the cosine itself."""

    def __init__(self) -> None: ...

    def read(
        self, question: str, vector: object, dense: object, lexical: object, rows: Mapping[str, Row]
    ) -> Signs | None:
        assert isinstance(dense, list)
        return Signs(dense[0].score, *[0] * 10) if dense else None


def judge(
    question: str, score: float, *hits: Hit, tied: bool = False, best: str | None = None, **rates: float
) -> tuple[bool, bool]:
    """(is_doubtful, is_verbatim) where the dense stage gave the hit `score`."""
    judged = a_judge(**(rates or {"wrong_answer_rate": 0.1, "wrong_row_rate": 0.1})).judge(
        Query(question, np.zeros(2)),
        {"dense": [Ranked(best or hits[0].row.row_id, score)], "lexical": []},
        5,
        hits,
        tied=tied,
    )
    assert judged.evidence == score
    assert judged.answerability == pytest.approx((score - 0.85) / 0.1)
    return judged.is_doubtful, judged.is_verbatim


def a_judge(calibration: Calibration = _CALIBRATION, **rates: float) -> Judge:
    rows = {each.row_id: each for each in ROWS}
    return Judge(calibration, PlainBackground(), _COSINE_ALONE, rows, 0.001, **rates)


_SALT, _COLD = Hit(SALT, 0.9, {}), Hit(COLD, 0.8, {})


def test_weak_signs_are_doubtful_and_strong_evidence_verbatim() -> None:
    assert judge("盐怎么吃", 0.89, _SALT, _COLD) == (True, False)
    assert judge("盐怎么吃", 0.91, _SALT, _COLD) == (False, False)
    assert judge("盐怎么吃", 0.955, _SALT, _COLD) == (False, True)


def test_what_was_not_chosen_is_not_judged() -> None:
    assert judge("盐怎么吃", 0.1, _SALT, wrong_row_rate=0.1) == (False, False)
    assert judge("盐怎么吃", 0.99, _SALT, wrong_answer_rate=0.1) == (False, False)
    assert judge(SALT.question, 0.99, _SALT, wrong_answer_rate=0.1) == (False, False)


def test_a_row_is_verbatim_only_where_it_is_clear_which() -> None:
    assert judge("盐怎么吃", 0.99, _SALT, _COLD, tied=True) == (False, False)
    assert judge("盐怎么吃", 0.99, _SALT, _COLD, best=COLD.row_id) == (False, False)


def test_the_rows_own_question_is_answered_whatever_the_score() -> None:
    assert judge(f"{SALT.question}？", 0.5, _SALT, _COLD, tied=True) == (False, True)
    assert judge(f" {SALT.question}!", 0.5, _SALT) == (False, True)


def test_one_question_with_two_answers_is_not_given_word_for_word() -> None:
    twin = Hit(row("另一类", "", SALT.question, "另一个答案"), 0.9, {})
    assert judge(SALT.question, 0.99, _SALT, twin) == (False, False)


def test_nothing_found_is_doubtful_where_refusal_is_chosen() -> None:
    nothing = {"dense": [], "lexical": []}
    asked = Query("盐", np.zeros(2))
    assert a_judge(wrong_answer_rate=0.1).judge(asked, nothing, 5, [], tied=False).is_doubtful
    judged = a_judge().judge(asked, nothing, 5, [], tied=False)
    assert (judged.evidence, judged.is_doubtful, judged.is_verbatim) == (None, False, False)


@pytest.mark.parametrize("rate", [0.0001, 0.001])
def test_too_few_rows_refuse_nothing_and_only_equal_questions_are_verbatim(rate: float) -> None:
    few = dataclasses.replace(_CALIBRATION, scales=(Scale((0.95,) * 23, (0.85,) * 24), Scale((), ())))
    judged = a_judge(few, wrong_answer_rate=rate)
    assert judged.answer_from is None
    assert judge("盐怎么吃", 0.1, _SALT, wrong_answer_rate=rate) == (True, False)
    assert judge("盐怎么吃", 1.0, _SALT, wrong_row_rate=rate) == (False, False)
    assert judge(SALT.question, 0.1, _SALT, wrong_row_rate=rate) == (False, True)
