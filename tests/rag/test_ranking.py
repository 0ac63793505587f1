from __future__ import annotations

import numpy as np
import pytest

from rag.ranking import highest


@pytest.mark.parametrize("depth", [1, 3, 7, 50, 1000])
def test_the_highest_are_those_that_sorting_all_gives(depth: int) -> None:
    # Few different values: most ties are at the edge of what is kept.
    scores = np.random.default_rng(3).integers(-2, 6, 300).astype(np.float32)
    expected = [place for place in np.argsort(-scores, kind="stable") if scores[place] > 0][:depth]
    assert highest(scores, depth).tolist() == expected


def test_nothing_over_zero_is_nothing() -> None:
    assert highest(np.zeros(5, np.float32), 3).tolist() == []
    assert highest(np.zeros(0, np.float32), 3).tolist() == []
