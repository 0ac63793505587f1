"""What changed between two load tests beyond the noise within each.

Requests that follow each other are alike (they shared a batch, a queue), so the bootstrap draws blocks of them, about
the square root of their number long. It knows the noise within a run only: two runs on a machine that does something
else meanwhile differ by more, and only repeating them tells.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.runner import KIND
from data.errors import InputError

CONFIDENCE = 0.99
_NUM_RESAMPLES = 4000
_FEWEST = 10
_NUM_WINDOWS = 10

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A figure that is compared; `field` is a request's, or None for tokens a second."""

    label: str
    field: str | None
    part: int
    higher_is_better: bool


QUANTITIES = (
    Quantity("TTFT p50", "ttft_ms", 50, higher_is_better=False),
    Quantity("TTFT p90", "ttft_ms", 90, higher_is_better=False),
    Quantity("TPOT p50", "tpot_ms", 50, higher_is_better=False),
    Quantity("TPOT p90", "tpot_ms", 90, higher_is_better=False),
    Quantity("end to end p50", "e2e_ms", 50, higher_is_better=False),
    Quantity("end to end p90", "e2e_ms", 90, higher_is_better=False),
    Quantity("tokens/s", None, 0, higher_is_better=True),
)


@dataclass(frozen=True)
class Change:
    """One quantity at one load, before and after; `low` and `high` bound the ratio after/before."""

    level: str
    quantity: str
    before: float
    after: float
    low: float
    high: float
    verdict: str

    @property
    def ratio(self) -> float:
        """After by before."""
        return self.after / self.before


def read_report(path: Path) -> dict[str, Any]:
    """Read what `bench load` wrote.

    Raises:
        InputError: the file cannot be read or is something else.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable as JSON ({error}); give a load.json of `bench load`"
        ) from error
    if not isinstance(report, dict) or report.get("kind") != KIND:
        raise InputError(f"{path}: not a report of `bench load`; give its load.json")
    return report


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare every quantity at every load that both reports have, in the first one's order.

    Raises:
        InputError: they share no load.
    """
    others = {_key(level): level for level in after["levels"]}
    pairs = [(level, others[_key(level)]) for level in before["levels"] if _key(level) in others]
    if not pairs:
        raise InputError(
            "the two reports share no load; run `bench load` with the same --concurrency or --rate"
        )
    return [
        change
        for old, new in pairs
        for quantity in QUANTITIES
        if (change := _change(quantity, old, new)) is not None
    ]


def _key(level: Mapping[str, Any]) -> tuple[Any, ...]:
    return level["mode"], level["concurrency"], level["rate"]


def _change(quantity: Quantity, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    values = [_values(level["requests"], quantity.field) for level in (old, new)]
    if min(len(of_level) for of_level in values) < _FEWEST:
        return None
    estimate = partial(_estimate, quantity)
    first, second = (float(estimate(of_level[None, :])[0]) for of_level in values)
    if first <= 0 or second <= 0:
        return None
    random = np.random.default_rng(0)
    drawn = [estimate(_resampled(of_level, random)) for of_level in values]
    with np.errstate(divide="ignore"):
        ratios = np.log(drawn[1]) - np.log(drawn[0])
    tail = (1 - CONFIDENCE) / 2
    low, high = (math.exp(float(end)) for end in np.quantile(ratios, (tail, 1 - tail)))
    return Change(str(old["label"]), quantity.label, first, second, low, high, _verdict(quantity, low, high))


def _estimate(quantity: Quantity, drawn: Values) -> Values:
    """Return the quantity of each row of `drawn`."""
    if quantity.field is None:
        return np.asarray(drawn.mean(axis=1))
    return np.asarray(np.percentile(drawn, quantity.part, axis=1))


def _values(requests: Sequence[Mapping[str, Any]], field: str | None) -> Values:
    if field is not None:
        return np.array([request[field] for request in requests if field in request], dtype=np.float64)
    return _tokens_by_window(requests)


def _tokens_by_window(requests: Sequence[Mapping[str, Any]]) -> Values:
    """Return tokens a second in each of ten equal parts of the run, an answer's tokens spread over its time."""
    spans = [
        (item["start_s"], item["start_s"] + item["e2e_ms"] / 1000, item["tokens"])
        for item in requests
        if "e2e_ms" in item
    ]
    if len(spans) < _FEWEST:
        return np.empty(0)
    begins, ends, tokens = np.array(spans, dtype=np.float64).T
    edges = np.linspace(0.0, ends.max(), _NUM_WINDOWS + 1)
    done = np.clip((edges[:, None] - begins) / np.maximum(ends - begins, 1e-9), 0, 1) @ tokens
    return np.asarray(np.diff(done) / np.diff(edges))


def _resampled(values: Values, random: np.random.Generator) -> Values:
    """Return `values` drawn anew in blocks, round the end, (_NUM_RESAMPLES, len(values))."""
    size = len(values)
    length = max(1, round(math.sqrt(size)))
    starts = random.integers(0, size, (_NUM_RESAMPLES, math.ceil(size / length)))
    places = (starts[:, :, None] + np.arange(length)) % size
    return np.asarray(values[places.reshape(_NUM_RESAMPLES, -1)[:, :size]])


def _verdict(quantity: Quantity, low: float, high: float) -> str:
    if low <= 1 <= high:
        return "no change beyond noise"
    return "better" if (low > 1) == quantity.higher_is_better else "worse"
