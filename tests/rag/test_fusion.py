from __future__ import annotations

import pytest

from rag.fusion import fuse_ranks, fuse_scores
from rag.stages import Ranked


def ranked(**scores: float) -> list[Ranked]:
    return [Ranked(row_id, score) for row_id, score in scores.items()]


def test_scores_add_up_on_the_scale_of_their_gains() -> None:
    rankings = {"dense": ranked(a=0.9, b=0.8), "lexical": ranked(b=20.0)}
    fused = fuse_scores(rankings, {"dense": 1.0, "lexical": 0.01}, depth=50)
    assert [(row.row_id, row.score) for row in fused] == [
        ("b", pytest.approx(1.0)),
        ("a", pytest.approx(0.9)),
    ]
    assert fused[0].ranks == {"dense": 2, "lexical": 1}
    assert fused[1].ranks == {"dense": 1}


def test_a_row_beyond_a_full_ranking_counts_with_its_lowest_score() -> None:
    rankings = {"dense": ranked(a=0.9, b=0.8), "lexical": ranked(c=20.0)}
    full = fuse_scores(rankings, {"dense": 1.0, "lexical": 0.01}, depth=2)
    assert {row.row_id: row.score for row in full}["c"] == pytest.approx(0.8 + 0.2)
    short = fuse_scores(rankings, {"dense": 1.0, "lexical": 0.01}, depth=3)
    assert {row.row_id: row.score for row in short}["c"] == pytest.approx(0.2)


def test_reciprocal_ranks_follow_the_formula() -> None:
    rankings = {"dense": ranked(a=1.0, b=0.5), "lexical": ranked(b=9.0, c=3.0)}
    fused = fuse_ranks(rankings, {"dense": 1.0, "lexical": 2.0}, k=10)
    highest = 3 / 11
    assert [row.row_id for row in fused] == ["b", "c", "a"]
    assert fused[0].score == pytest.approx((1 / 12 + 2 / 11) / highest)
    assert fused[1].score == pytest.approx((2 / 12) / highest)


def test_a_row_that_is_first_everywhere_scores_one() -> None:
    fused = fuse_ranks(
        {"dense": ranked(a=0.1), "lexical": ranked(a=0.1)}, {"dense": 3.0, "lexical": 1.0}, k=60
    )
    assert fused[0].score == pytest.approx(1.0)


def test_equal_scores_are_ordered_by_id() -> None:
    rankings = {"dense": ranked(b=1.0, a=1.0), "lexical": ranked(a=1.0, b=1.0)}
    assert [row.row_id for row in fuse_ranks(rankings, {"dense": 1.0, "lexical": 1.0}, k=10)] == ["a", "b"]


def test_nothing_ranked_gives_nothing() -> None:
    assert fuse_scores({"dense": [], "lexical": []}, {"dense": 1.0, "lexical": 1.0}, depth=5) == []
    assert fuse_ranks({"dense": [], "lexical": []}, {"dense": 1.0, "lexical": 1.0}, k=10) == []
