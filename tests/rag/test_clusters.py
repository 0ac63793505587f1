from __future__ import annotations

import numpy as np

from rag.clusters import cluster, nearness_of_equals


def directions(*angles: float) -> np.ndarray:
    """Unit vectors at these angles, in degrees."""
    radians = np.radians(np.array(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_near_questions_come_together_the_largest_cluster_first() -> None:
    vectors = directions(0, 90, 2, 92, 4, 180)
    found = cluster(["a", "b", "c", "d", "e", "f"], vectors, nearness=0.99)
    assert [sorted(each.places) for each in found] == [[0, 2, 4], [1, 3], [5]]
    assert found[0].places[0] == 2


def test_equal_texts_are_one_whatever_their_vectors() -> None:
    found = cluster(["盐", "药", " 盐 "], directions(0, 90, 45), nearness=0.999)
    assert [sorted(each.places) for each in found] == [[0, 2], [1]]


def test_nothing_gives_nothing() -> None:
    assert cluster([], np.zeros((0, 2), np.float32), 0.9) == []


def test_equals_are_nearer_than_nine_tenths_of_the_different() -> None:
    own = directions(*(3 * number for number in range(20)))
    nearness = nearness_of_equals(own)
    assert np.cos(np.radians(3)) - 1e-4 <= nearness <= 1
    assert nearness_of_equals(directions(0, 120, 240)) == 0.9
    assert nearness_of_equals(own[:1]) == 1.0
