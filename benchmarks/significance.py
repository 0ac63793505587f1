"""Whether two arms that answered the same questions differ: intervals of the mean difference, and McNemar's test.

The interval is a paired bootstrap: questions are drawn with replacement, both arms' values of a question together.
Percentiles of so few numbers are too narrow (with 20 questions a 95% interval holds the truth about 92% of the
time), so they are taken further out, by what Student's t is wider than the normal: the expanded percentile interval
(Hesterberg, The American Statistician 69, 2015). benchmarks knows its coverage: tests/benchmarks/test_significance.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
_FEWEST = 5
_CHUNK_VALUES = 4_000_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval; `num` values were behind it."""

    mean: float
    low: float
    high: float
    num: int

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval is on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """Two arms' difference in one measure, the first minus the second, over questions that both have a value of.

    Attributes:
        difference: Its mean with the interval.
        confidence: The share (0.5 to 1) of the resamples in which the sign is that of the mean.
        mcnemar_p: McNemar's exact p, for a measure that is yes or no; None for others.
    """

    difference: Interval
    confidence: float
    mcnemar_p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether they differ: by the interval, and for yes or no by McNemar's test as well."""
        return self.difference.excludes_zero and (self.mcnemar_p is None or self.mcnemar_p < 1 - CONFIDENCE)


def mean_interval(
    values: Sequence[float] | Values,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` with its bootstrap interval; the same for the same values and seed.

    Raises:
        ValueError: there are no values.
    """
    return _bootstrap(np.asarray(values, dtype=np.float64), confidence, num_resamples, seed)[0]


def compare_paired(
    left: Sequence[float | None],
    right: Sequence[float | None],
    *,
    is_binary: bool = False,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison | None:
    """Compare two arms' values of the same questions, in the same order; a pair with a None is left out.

    Returns:
        None where fewer than five pairs are left: too few to say anything of.
    """
    pairs = [
        (one, other) for one, other in zip(left, right, strict=True) if one is not None and other is not None
    ]
    if len(pairs) < _FEWEST:
        return None
    both = np.array(pairs, dtype=np.float64)
    interval, confident = _bootstrap(both[:, 0] - both[:, 1], confidence, num_resamples, seed)
    mcnemar_p = None
    if is_binary:
        mcnemar_p = mcnemar(int(np.sum(both[:, 0] > both[:, 1])), int(np.sum(both[:, 0] < both[:, 1])))
    return Comparison(interval, confident, mcnemar_p)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test, given how often only the one and only the other was right."""
    total = only_first + only_second
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, place) for place in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << total))


def _bootstrap(values: Values, confidence: float, num_resamples: int, seed: int) -> tuple[Interval, float]:
    """Return the mean's interval, and the share of resampled means with its sign (ties count half)."""
    if not values.size:
        raise ValueError("no values")
    mean = float(values.mean())
    means = _resampled_means(values, num_resamples, np.random.default_rng(seed))
    tail = _expanded_tail(confidence, values.size)
    low, high = np.quantile(means, (tail, 1 - tail))
    above: float = np.mean(means > 0).item() + 0.5 * np.mean(means == 0).item()
    return Interval(mean, float(low), float(high), values.size), max(above, 1 - above)


def _resampled_means(values: Values, num_resamples: int, random: np.random.Generator) -> Values:
    """Return the means of `num_resamples` samples of the values' own size, (num_resamples,)."""
    chunk = max(1, _CHUNK_VALUES // values.size)
    sizes = [min(chunk, num_resamples - start) for start in range(0, num_resamples, chunk)]
    parts = [
        values[random.integers(0, values.size, (size, values.size), dtype=np.int32)].mean(axis=1)
        for size in sizes
    ]
    return np.concatenate(parts)


def _expanded_tail(confidence: float, num: int) -> float:
    """Return what to cut off at each end for an interval of `confidence` from `num` values."""
    from scipy.stats import norm, t

    tail = (1 - confidence) / 2
    if num < 2:
        return tail
    return float(norm.cdf(t.ppf(tail, num - 1) * math.sqrt(num / (num - 1))))
