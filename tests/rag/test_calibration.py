from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.records import Row
from rag.answerability import Answerability, Scale, shipped_answerability
from rag.calibration import Calibration, calibrate, load_calibration, questions_to_ask
from rag.lexical import LexicalStage, open_lexical, write_lexical
from tests.rag.rows import ROWS, row

_NO_SCALE = Scale((), ())


def vectors_of(rows: list[Row], seed: int = 1) -> np.ndarray:
    """A vector a row: its topic's direction, a little of its own."""
    random = np.random.default_rng(seed)
    topics: dict[str, np.ndarray] = {}
    made = []
    for each in rows:
        topic = topics.setdefault(each.info_1, random.normal(size=16))
        made.append(topic + 0.5 * random.normal(size=16))
    vectors = np.array(made, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lexical_of(rows: list[Row], folder: Path, gain: float = 0.01) -> LexicalStage:
    write_lexical(folder, rows, 3)
    return open_lexical(folder, [each.row_id for each in rows], gain)


def many_rows(num_topics: int = 30, per_topic: int = 4) -> list[Row]:
    return [
        row(f"病{topic}", f"方面{number}", f"病{topic}的第{number}个问题", f"答{topic}{number}")
        for topic in range(num_topics)
        for number in range(per_topic)
    ]


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.1, 90.0), (0.5, 50.0), (0.01, 99.0), (0.98, 2.0), (0.005, None)]
)
def test_a_threshold_keeps_its_rate_for_a_new_score(rate: float, expected: float | None) -> None:
    scores = tuple(float(number) for number in range(1, 100))
    assert Calibration(8.0, scores, (_NO_SCALE, _NO_SCALE)).verbatim_threshold(rate) == expected


def test_new_scores_of_the_same_kind_exceed_a_threshold_as_often_as_chosen() -> None:
    random = np.random.default_rng(3)
    exceeded = []
    for _ in range(200):
        known, new = np.sort(random.normal(size=60)), random.normal(size=50)
        threshold = Calibration(8.0, tuple(known), (_NO_SCALE, _NO_SCALE)).verbatim_threshold(0.1)
        assert threshold is not None
        exceeded.append(np.mean(new > threshold))
    assert np.mean(exceeded) == pytest.approx(0.1, abs=0.01)


def test_a_place_lies_between_the_rows_own_questions_without_and_with_their_topic() -> None:
    assert Scale((*range(20, 43),), (*range(22),)).place(30.0) is None  # 23 and 22 questions
    scale = Scale((*range(20, 45),), (*range(25),))
    assert [scale.place(total) for total in (12.0, 19.0, 32.0)] == pytest.approx([0.0, 0.35, 1.0])
    # Where a row does not answer its own question better than others do, nothing can be told.
    assert Scale((1.0,) * 30, (1.0,) * 30).place(1.0) is None


def test_either_of_both_sums_may_find_a_question_answered() -> None:
    learned = Answerability({}, {}, plain_lead=0.1)
    scales = (Scale((1.0,) * 30, (0.0,) * 30), Scale((10.0,) * 30, (0.0,) * 30))
    assert learned.place((0.5, 0.0), scales) == 0.5
    assert learned.place((0.5, 8.0), scales) == pytest.approx(0.7)
    assert learned.place((0.5, 8.0), (scales[0], _NO_SCALE)) == 0.5
    assert learned.place((0.5, 8.0), (_NO_SCALE, _NO_SCALE)) is None


def test_a_lower_rate_lies_further_on_that_scale() -> None:
    learned = Answerability({}, {}, 0.0, tuple(number / 100 for number in range(100)))
    assert [learned.share(rate) for rate in (0.9, 0.1, 0.05, 0.001)] == pytest.approx([0.1, 0.9, 0.95, 0.99])
    shipped = shipped_answerability()
    assert list(shipped.unanswerable) == sorted(shipped.unanswerable)
    assert 0.2 < shipped.share(0.1) < shipped.share(0.02) < 1
    assert min(shipped.plain.values()) == 0.0 and max(shipped.plain.values()) > 0


def test_calibration_separates_kept_rows_from_left_out_ones(tmp_path: Path) -> None:
    rows = many_rows()
    vectors = vectors_of(rows)
    asked = questions_to_ask(rows)
    made = calibrate(rows, vectors, lexical_of(rows, tmp_path), 0.1, asked, vectors[asked])
    for scale in made.scales:
        assert len(scale.own) == len(made.row_left_out) == len(scale.topic_left_out) == len(rows)
        assert list(scale.own) == sorted(scale.own)
        assert np.median(scale.topic_left_out) < np.median(scale.own)
        assert scale.place(float(np.median(scale.own))) == 1.0
    assert made.is_enough


def test_it_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    made = Calibration(7.5, (0.8,), (Scale((0.9, 0.95), (0.7, 0.71)), Scale((2.0,), ())))
    made.save(tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == made
    saved = (tmp_path / "calibration.json").read_text()
    # A threshold on scores of another kind would refuse nearly everything.
    of_other_scores = saved.replace("answerability, 4", "nothing else")
    assert of_other_scores != saved
    one_scale = saved.replace('"scales"', '"scale"')
    for text in ("", "[]", '{"usual_terms": 1}', one_scale, of_other_scores):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(InputError, match="rag index"):
            load_calibration(tmp_path / "calibration.json")


def test_at_most_300_rows_are_asked_and_an_edit_changes_hardly_any() -> None:
    rows = many_rows(num_topics=200)
    asked = {rows[place].row_id for place in questions_to_ask(rows)}
    assert len(asked) == 300
    with_new = [*rows, row("新病", "", "新问题", "新答")]
    assert len(asked - {with_new[place].row_id for place in questions_to_ask(with_new)}) <= 1
    assert questions_to_ask([row("甲", "", " ", "答")]) == []


def test_a_workbook_of_one_topic_or_one_row_promises_nothing(tmp_path: Path) -> None:
    rows = many_rows(num_topics=1)
    vectors = vectors_of(rows)
    made = calibrate(rows, vectors, lexical_of(rows, tmp_path), 0.1, range(4), vectors)
    assert [scale.topic_left_out for scale in made.scales] == [(), ()]
    assert made.scales[0].place(1.0) is None and not made.is_enough
    alone = list(ROWS[:1])
    made = calibrate(alone, vectors[:1], lexical_of(alone, tmp_path / "one"), 0.1, [0], vectors[:1])
    assert made.row_left_out == ()
    assert made.verbatim_threshold(0.01) is None
    assert math.isfinite(made.usual_terms)
    nothing = calibrate(alone, vectors[:1], lexical_of(alone, tmp_path / "no"), 0.1, [], vectors[:0])
    assert nothing.scales == (_NO_SCALE, _NO_SCALE)
