"""Choosing the best rows of an array of scores. Knows nothing of what the scores mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def highest(scores: NDArray[np.floating[Any]], depth: int) -> NDArray[np.intp]:
    """Return the places of the (at most) `depth` highest scores over 0, the highest first, equal ones in order."""
    places = np.flatnonzero(scores > 0)
    found = scores[places]
    if len(places) > depth:
        # Sorting a hundred thousand rows to name fifty takes longer than scoring them.
        least = np.partition(found, len(found) - depth)[len(found) - depth]
        kept = found >= least
        places, found = places[kept], found[kept]
    return places[np.argsort(-found, kind="stable")[:depth]]
