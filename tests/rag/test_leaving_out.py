from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rag.leaving_out import LeavingOut, Topics
from tests.rag.rows import row
from tests.rag.test_calibration import lexical_of, many_rows, vectors_of


def test_what_is_left_out_lowers_the_scores(tmp_path: Path) -> None:
    rows = many_rows()
    vectors = vectors_of(rows)
    leaving_out = LeavingOut(rows, vectors, lexical_of(rows, tmp_path), 0.1, usual_terms=8.0)
    topics = Topics(rows, vectors)
    for place in range(0, len(rows), 7):
        asked = leaving_out.ask(rows[place].question, vectors[place])
        assert asked.evidence() > asked.evidence([place]) >= asked.evidence(topics.of(place))
        for whole, without in zip(asked.sums(), asked.sums(topics.of(place)), strict=True):
            assert whole > without


def test_with_every_row_left_out_nothing_speaks_for_an_answer(tmp_path: Path) -> None:
    rows = many_rows(2)
    vectors = vectors_of(rows)
    asked = LeavingOut(rows, vectors, lexical_of(rows, tmp_path), 0.1, 8.0).ask("病0", vectors[0])
    assert asked.signs(range(len(rows))) is None
    assert asked.evidence(range(len(rows))) == -math.inf
    assert asked.sums(range(len(rows))) == (-math.inf, -math.inf)


def test_a_topic_is_the_subject_and_a_department_is_none() -> None:
    rows = many_rows(num_topics=60)
    subjects = Topics(rows, vectors_of(rows))
    assert [rows[place].info_1 for place in subjects.of(5)] == [rows[5].info_1] * 4

    departments = [
        row("内科" if place % 2 else "外科", f"病{place // 8}", f"问题{place}", "答") for place in range(240)
    ]
    same = Topics(departments, vectors_of(departments)).of(9)
    assert {(departments[p].info_1, departments[p].info_2) for p in same} == {("内科", "病1")}
    assert len(same) == 4


def test_without_topics_the_nearest_rows_stand_for_one() -> None:
    rows = [row("", "", f"问题{place}", "答") for place in range(300)]
    vectors = vectors_of(rows)
    same = Topics(rows, vectors).of(17)
    assert 17 in same
    assert len(same) == 3
    assert set(same) == set(np.argsort(-(vectors @ vectors[17]))[:3])
