"""Measure how far raters agree: intraclass correlation and weighted kappa."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True, slots=True)
class IntraclassCorrelation:
    """The six forms of Shrout and Fleiss 1979, Psychological Bulletin 86:420; the letter k is the number of raters.

    A form is None where it is not defined: the variance that it is a share of is estimated as zero or less.
    """

    one_way: float | None
    """ICC(1,1): each subject has different raters."""
    agreement: float | None
    """ICC(2,1): raters drawn at random; a rater who is always stricter counts as disagreement."""
    consistency: float | None
    """ICC(3,1): these raters and no others; only order and distances of subjects count. Wan et al. report this one."""
    one_way_mean: float | None
    """ICC(1,k), for the mean of the raters."""
    agreement_mean: float | None
    """ICC(2,k), for the mean of the raters."""
    consistency_mean: float | None
    """ICC(3,k), for the mean of the raters."""
    consistency_interval: tuple[float, float] | None
    """95 % confidence interval of ICC(3,1), from the F distribution (equations 9 to 11); None where ICC(3,1) is."""
    subjects: int
    raters: int


def intraclass_correlation(ratings: ArrayLike) -> IntraclassCorrelation | None:
    """Compute the ICC of ratings (subjects, raters), complete; return None where all ratings are equal.

    Raises ValueError for fewer than two subjects or raters, and where a rating is missing.
    """
    table = np.asarray(ratings, float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"ICC needs at least two subjects and two raters; the ratings have shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("ICC needs every rater's rating of every subject")
    n, k = table.shape
    between, within, raters, residual = _mean_squares(table)
    if between == raters == residual == 0:
        return None
    return IntraclassCorrelation(
        one_way=_share(between - within, between + (k - 1) * within),
        agreement=_share(between - residual, between + (k - 1) * residual + k * (raters - residual) / n),
        consistency=_share(between - residual, between + (k - 1) * residual),
        one_way_mean=_share(between - within, between),
        agreement_mean=_share(between - residual, between + (raters - residual) / n),
        consistency_mean=_share(between - residual, between),
        consistency_interval=_consistency_interval(between, residual, n, k),
        subjects=n,
        raters=k,
    )


def _mean_squares(table: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return mean squares: between subjects, within subjects, between raters, residual (BMS, WMS, JMS, EMS)."""
    n, k = table.shape
    of_subjects = table.mean(axis=1, keepdims=True)
    of_raters = table.mean(axis=0, keepdims=True)
    between = k * float(((of_subjects - table.mean()) ** 2).sum()) / (n - 1)
    within = float(((table - of_subjects) ** 2).sum()) / (n * (k - 1))
    raters = n * float(((of_raters - table.mean()) ** 2).sum()) / (k - 1)
    residual = float(((table - of_subjects - of_raters + table.mean()) ** 2).sum()) / ((n - 1) * (k - 1))
    # Sums of squares that are rounding errors would make 0/0 look like a number.
    negligible = 1e-12 * max(1.0, float((table**2).mean()))
    return tuple(0.0 if square < negligible else square for square in (between, within, raters, residual))  # type: ignore[return-value]


def _share(part: float, whole: float) -> float | None:
    # Where the whole is zero but for rounding, it is tiny beside its part.
    return part / whole if whole > 1e-9 * abs(part) else None


def _consistency_interval(between: float, residual: float, n: int, k: int) -> tuple[float, float] | None:
    if residual == 0:
        return (1.0, 1.0) if between else None
    found, of_residual = between / residual, (n - 1) * (k - 1)
    low = found / float(stats.f.ppf(0.975, n - 1, of_residual))
    high = found * float(stats.f.ppf(0.975, of_residual, n - 1))
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def weighted_kappa(first: Sequence[int], second: Sequence[int], categories: Sequence[int]) -> float | None:
    """Compute Cohen's kappa with quadratic weights (Cohen 1968, Psychological Bulletin 70:213) of two ratings.

    `first` and `second` are the ratings of each subject; `categories` is the whole scale in order. Returns None where
    chance alone would agree fully: all ratings are the same category, or there is no subject. Raises ValueError for a
    rating off the scale.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} ratings cannot be compared with {len(second)}")
    place = {category: number for number, category in enumerate(categories)}
    if off := sorted({*first, *second} - set(place)):
        raise ValueError(f"rating {off[0]} is not on the scale {list(categories)}")
    counts = np.zeros((len(place), len(place)))
    for one, other in zip(first, second, strict=True):
        counts[place[one], place[other]] += 1
    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(1, len(first))
    steps = np.arange(len(place))
    weights = (steps[:, None] - steps[None, :]) ** 2
    expected = float((weights * by_chance).sum())
    return 1 - float((weights * counts).sum()) / expected if expected else None
