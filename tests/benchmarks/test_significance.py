"""Intervals that hold the truth as often as they say, and tests against their textbook forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.significance import compare_paired, mcnemar, mean_interval

NUM_SIMULATIONS = 1000


def coverage(kind: str, num_questions: int) -> float:
    """The share of simulated comparisons whose 95% interval holds the difference that was put in."""
    random = np.random.default_rng(20240607)
    held = 0
    for number in range(NUM_SIMULATIONS):
        difficulty = random.normal(40, 15, num_questions)
        if kind == "points":
            # ROUGE-L-like: correlated arms, one skewed, cut at neither end; the second is 5 points better.
            left = difficulty + random.exponential(10, num_questions)
            right = difficulty + random.normal(15, 8, num_questions)
            truth = -5.0
        else:
            # Right or wrong: 70% against 60%, both easier on easy questions.
            luck = random.random(num_questions)
            left = 100.0 * (luck < 0.7)
            right = 100.0 * (
                np.where(random.random(num_questions) < 0.5, luck, random.random(num_questions)) < 0.6
            )
            truth = 10.0
        compared = compare_paired(left.tolist(), right.tolist(), num_resamples=1000, seed=number)
        assert compared is not None
        held += compared.difference.low <= truth <= compared.difference.high
    return held / NUM_SIMULATIONS


@pytest.mark.parametrize(("kind", "num_questions"), [("points", 20), ("points", 200), ("right", 100)])
def test_the_interval_holds_the_truth_95_times_in_100(kind: str, num_questions: int) -> None:
    assert 0.93 <= coverage(kind, num_questions) <= 0.97


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 12), (12, 3), (7, 7), (40, 61)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_equal_arms_do_not_differ() -> None:
    values = [float(value) for value in range(30)]
    compared = compare_paired(values, values)
    assert compared is not None
    assert (compared.difference.low, compared.difference.high) == (0, 0)
    assert not compared.is_significant
    assert compared.confidence == 0.5


def test_a_clear_difference_is_found_and_the_same_every_time() -> None:
    random = np.random.default_rng(1)
    left = random.normal(50, 10, 80)
    right = left - 4 + random.normal(0, 3, 80)
    once, again = (compare_paired(left.tolist(), right.tolist(), seed=3) for _ in range(2))
    assert once == again
    assert once is not None and once.is_significant and once.confidence > 0.999
    assert once.difference.mean == pytest.approx(float(np.mean(left - right)))


def test_questions_that_an_arm_has_no_value_of_are_left_out() -> None:
    left = [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0]
    right = [0.0, 1.0, 9.0, None, 4.0, 5.0, 6.0]
    compared = compare_paired(left, right)
    assert compared is not None
    assert (compared.difference.mean, compared.difference.num) == (1.0, 5)
    assert compare_paired(left[:5], right[:5]) is None


def test_a_few_right_answers_more_are_not_enough_for_mcnemar() -> None:
    left, right = [100.0] * 4 + [0.0] * 16, [0.0] * 20
    compared = compare_paired(left, right, is_binary=True)
    assert compared is not None
    assert compared.difference.excludes_zero
    assert compared.mcnemar_p == pytest.approx(0.125)
    assert not compared.is_significant


def test_the_interval_of_a_mean() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert interval.low < interval.mean == 2.5 < interval.high
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
