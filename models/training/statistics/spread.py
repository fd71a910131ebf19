"""Summarise many values: median, quartiles and a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 2000
FEWEST_FOR_INTERVAL = 3
"""Smallest sample with an interval; one resampled from one or two values would mislead."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Location and spread of values."""

    count: int
    median: float
    quartiles: tuple[float, float]
    """25th and 75th percentile, interpolated linearly (Hyndman and Fan's type 7, numpy's default)."""
    mean: float
    standard_deviation: float | None
    """Of the sample (divided by n - 1), as in Wan et al.; None for a single value."""
    lowest: float
    highest: float
    median_interval: tuple[float, float] | None
    """95 % percentile bootstrap interval of the median (Efron and Tibshirani 1993); None for fewer than three."""


def spread(values: Sequence[float], seed: int) -> Spread | None:
    """Summarise values; return None where there are none. The same seed gives the same interval.

    Raises ValueError where a value is not finite; the caller has to decide what such a value counts as.
    """
    if not values:
        return None
    sample = np.asarray(values, float)
    if not np.isfinite(sample).all():
        raise ValueError("values have to be finite")
    low, median, high = (float(value) for value in np.percentile(sample, (25, 50, 75)))
    return Spread(
        count=len(sample),
        median=median,
        quartiles=(low, high),
        mean=float(sample.mean()),
        standard_deviation=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        lowest=float(sample.min()),
        highest=float(sample.max()),
        median_interval=_median_interval(sample, seed) if len(sample) >= FEWEST_FOR_INTERVAL else None,
    )


def _median_interval(sample: np.ndarray[tuple[int, ...], np.dtype[np.float64]], seed: int) -> tuple[float, float]:
    # The percentile method: bias-corrected intervals divide by zero where many values are equal, such as Dice 0.
    found = stats.bootstrap(
        (sample,), np.median, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
