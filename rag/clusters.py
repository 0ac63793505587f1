"""Putting questions together that ask the same. Pure arithmetic on vectors and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.records import normalised

# Rows of a knowledge base ask different things. As near as only a tenth of them come to another: the same.
_SAME = 0.9
# A knowledge base of very few rows says little of how near different questions come.
_AT_LEAST = 0.9


@dataclass(frozen=True)
class Cluster:
    """Places of questions that ask the same; the first is the one in the middle."""

    places: tuple[int, ...]


def nearness_of_equals(own_questions: NDArray[np.float32]) -> float:
    """Return the cosine from which two questions count as one.

    `own_questions` (n, dims) are vectors of different rows' questions, L2-normalised.
    """
    if len(own_questions) < 2:
        return 1.0
    cosines = own_questions @ own_questions.T
    np.fill_diagonal(cosines, -1.0)
    return max(_AT_LEAST, float(np.quantile(cosines.max(axis=1), _SAME)))


def cluster(questions: Sequence[str], vectors: NDArray[np.float32], nearness: float) -> list[Cluster]:
    """Return the clusters, the largest first and equal ones in the order of their first question.

    `vectors` has shape (len(questions), dims), L2-normalised. A question joins the cluster whose mean it is
    nearest to, if that is at least `nearness`; equal texts are always together.
    """
    members: list[list[int]] = []
    sums, lengths = np.zeros_like(vectors), np.ones(len(vectors), np.float32)
    cluster_of: dict[str, int] = {}
    for place, question in enumerate(questions):
        text = normalised(question)
        found = cluster_of.get(text)
        if found is None and members:
            num = len(members)
            cosines = sums[:num] @ vectors[place] / lengths[:num]
            best = int(cosines.argmax())
            found = best if cosines[best] >= nearness else None
        if found is None:
            found = len(members)
            members.append([])
        cluster_of[text] = found
        members[found].append(place)
        sums[found] += vectors[place]
        lengths[found] = np.linalg.norm(sums[found])
    ordered = sorted(
        zip(members, sums[: len(members)], strict=True), key=lambda pair: (-len(pair[0]), pair[0][0])
    )
    return [Cluster(_middle_first(places, total, vectors)) for places, total in ordered]


def _middle_first(
    places: Sequence[int], total: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[int, ...]:
    nearness = vectors[list(places)] @ total
    middle = places[int(nearness.argmax())]
    return (middle, *(place for place in places if place != middle))
