"""How alike two questions are, and all pairs that are alike, without comparing every one with every other.

The measure, for lint, diff, split and generate alike: the Jaccard similarity of the sets of character n-grams
of the canonical question (`data.wording`), where a gram is two characters long if it begins with a CJK
character and three otherwise. 1 means the same grams, 0 none in common.

The join is exact: a pair at or above the threshold is always found. It rests on prefix filtering (Chaudhuri,
Ganti and Kaushik 2006; PPJoin of Xiao et al. 2008): with the grams in one global order, rarest first, two sets
that alike must share one of their first few, so that only rare grams need an inverted index.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from data.records import normalised
from data.wording import canonical, difference, is_cjk

Grams = frozenset[str]

# At or above it, two questions are near-duplicates.
NEAR_DUPLICATE = 0.8
# One question has words that the other has not: another question, unless it is long and they are few.
_ADDITION = 0.9


@dataclass(frozen=True)
class Pair:
    """Two places in a sequence, `left` < `right`, and the similarity of what stands there."""

    left: int
    right: int
    similarity: float


def grams(text: str) -> Grams:
    """Return the grams of a question, which need not be canonical yet."""
    return grams_of(canonical(text))


def plain_grams(text: str) -> Grams:
    """Return the grams of the letters and digits of a text as it stands, width and case aside.

    What someone who knows nothing of `data.wording` would compare.
    """
    return grams_of("".join(character for character in normalised(text) if character.isalnum()))


def grams_of(canonical_text: str) -> Grams:
    """Return the grams of a canonical question."""
    found = set()
    for start, character in enumerate(canonical_text):
        gram = canonical_text[start : start + (2 if is_cjk(character) else 3)]
        if len(gram) > 1 or len(canonical_text) == 1:
            found.add(gram)
    return frozenset(found)


def similarity(left: Grams, right: Grams) -> float:
    """Return the Jaccard similarity of two sets; 0 when both are empty."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def asks_the_same(left: Sequence[str], right: Sequence[str], alike: float) -> bool:
    """Tell whether two questions of similarity `alike`, given as canonical words, are one in two wordings.

    Stricter than similarity: a number, a negation or any content word that was exchanged makes two questions.
    """
    differ = difference(left, right)
    if differ == "none":
        return True
    return alike >= (_ADDITION if differ == "addition" else NEAR_DUPLICATE) and differ != "content"


def similar_pairs(
    sets: Sequence[Grams], threshold: float, keys: Sequence[Hashable] | None = None
) -> Iterator[Pair]:
    """Yield the pairs whose similarity is at least `threshold` (over 0), each once, in no particular order.

    Equal sets are joined to the first of their kind and stand for it elsewhere, so that a thousand copies give
    a thousand pairs and not half a million. With `keys`, only places with equal keys are compared. Empty sets
    are like nothing.
    """
    parts: dict[Hashable, dict[Grams, int]] = defaultdict(dict)
    for place, members in enumerate(sets):
        if not members:
            continue
        part = parts[keys[place] if keys is not None else None]
        first = part.setdefault(members, place)
        if first != place:
            yield Pair(first, place, 1.0)
    for part in parts.values():
        if len(part) > 1:
            yield from _join(part, threshold)


def _join(distinct: dict[Grams, int], threshold: float) -> Iterator[Pair]:
    frequency = Counter(gram for members in distinct for gram in members)
    rank = {gram: place for place, gram in enumerate(sorted(frequency, key=lambda g: (frequency[g], g)))}
    # Shorter sets first: a set meets only sets that are no longer than itself.
    records = sorted(distinct, key=len)
    index: dict[str, list[int]] = defaultdict(list)
    for number, members in enumerate(records):
        size = len(members)
        shortest = math.ceil(threshold * size - 1e-9)
        prefix = sorted(members, key=rank.__getitem__)[: size - shortest + 1]
        candidates: set[int] = set()
        for gram in prefix:
            candidates.update(index[gram])
            index[gram].append(number)
        for other in candidates:
            if len(records[other]) < shortest:
                continue
            alike = similarity(members, records[other])
            if alike >= threshold - 1e-9:
                here, there = distinct[members], distinct[records[other]]
                yield Pair(min(here, there), max(here, there), alike)


class NearestIndex:
    """Finds, for one set of grams, the most similar one of a collection; exact, by counting shared grams."""

    def __init__(self, sets: Sequence[Grams]) -> None:
        self._sizes = [len(members) for members in sets]
        self._index: dict[str, list[int]] = defaultdict(list)
        for place, members in enumerate(sets):
            for gram in members:
                self._index[gram].append(place)

    def nearest(self, members: Grams) -> tuple[int, float] | None:
        """Return (place, similarity) of the most similar set, the first of equals; None if nothing is shared."""
        shared = Counter[int]()
        for gram in members:
            shared.update(self._index.get(gram, ()))
        best: tuple[int, float] | None = None
        for place, count in shared.items():
            alike = count / (len(members) + self._sizes[place] - count)
            if best is None or (alike, -place) > (best[1], -best[0]):
                best = (place, alike)
        return best


class Clusters:
    """Union-find over places 0 .. n-1; a cluster is named by its smallest place."""

    def __init__(self, num_places: int) -> None:
        self._parent = list(range(num_places))

    def find(self, place: int) -> int:
        """Return the name of the cluster that holds `place`."""
        root = place
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[place] != root:
            self._parent[place], place = root, self._parent[place]
        return root

    def join(self, left: int, right: int) -> None:
        """Make one cluster of the two."""
        first, second = sorted((self.find(left), self.find(right)))
        self._parent[second] = first
