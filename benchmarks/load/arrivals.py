"""When requests are due in an open loop: they come whether or not earlier ones were answered, as people do.

- constant: one every 1/rate seconds.
- poisson: independent of each other; gaps are exponential.
- gamma: gaps are gamma of shape `burstiness`; below 1 they come in bursts, 1 is poisson, above 1 they are evener.
- ramp: poisson whose rate rises linearly from `start_rate` to `rate`.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["constant", "poisson", "gamma", "ramp"]
KINDS: tuple[Arrivals, ...] = get_args(Arrivals)

Times = NDArray[np.float64]


def arrival_times(
    kind: Arrivals,
    rate: float,
    num: int,
    *,
    seed: int = 0,
    burstiness: float = 0.5,
    start_rate: float = 0.0,
) -> Times:
    """Return `num` times in seconds, ascending, the first after a gap from 0; the same for the same seed.

    Args:
        kind: How the gaps are distributed.
        rate: Requests a second; of a ramp, that at its end, reached with the last request.
        num: How many.
        seed: Of the random numbers.
        burstiness: Shape of a gamma's gaps.
        start_rate: Rate at the beginning of a ramp.

    Raises:
        ValueError: a rate or the burstiness is not positive, or a ramp does not rise.
    """
    if rate <= 0 or burstiness <= 0:
        raise ValueError("rate and burstiness must be above 0")
    random = np.random.default_rng(seed)
    if kind == "constant":
        return np.arange(1, num + 1) / rate
    if kind == "gamma":
        return np.cumsum(random.gamma(burstiness, 1 / (burstiness * rate), num))
    if kind == "poisson":
        return np.cumsum(random.exponential(1 / rate, num))
    if not 0 <= start_rate < rate:
        raise ValueError("a ramp starts below the rate that it rises to")
    # A poisson process of rate 1, its clock turned so that as many arrivals fall due as the ramp's area says.
    events = np.cumsum(random.exponential(1.0, num))
    slope = (rate**2 - start_rate**2) / (2 * num)
    return (np.sqrt(start_rate**2 + 2 * slope * events) - start_rate) / slope


def ramp_area(times: Times, rate: float, num: int, start_rate: float = 0.0) -> Times:
    """Return how many requests a ramp has due until each of `times`, on average; the inverse of its clock."""
    slope = (rate**2 - start_rate**2) / (2 * num)
    return start_rate * times + slope * times**2 / 2
