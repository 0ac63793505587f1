from __future__ import annotations

import pytest

from serving.quickstart.scores import rouge_l, units, without_markers


def test_chinese_counts_characters_and_english_words() -> None:
    assert units("每天 5克") == ["每", "天", "5", "克"]
    assert units("Take 5 mg, daily.") == ["take", "5", "mg", "daily"]


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("少吃盐", "少吃盐", 100.0),
        ("少吃", "少吃盐", 80.0),
        ("", "少吃盐", 0.0),
        ("abc", "xyz", 0.0),
        ("the cat sat", "the dog sat", 66.67),
    ],
)
def test_rouge_l(answer: str, reference: str, expected: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(expected, abs=0.01)


def test_markers_do_not_count() -> None:
    assert without_markers("少吃盐 [1]。多运动[12]。") == "少吃盐。多运动。"
