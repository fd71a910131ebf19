"""Test whether groups differ: Mann-Whitney U with an effect size, chi-square, and Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """The comparison of two independent groups of measurements."""

    u: float
    """Mann-Whitney U of the first group (Mann and Whitney 1947): pairs in which its value is larger, ties half."""
    p: float
    """Two-sided; exact for small groups without ties, else by the normal approximation with ties and continuity."""
    cliffs_delta: float
    """2 U / (n1 n2) - 1 (Cliff 1993, Psychological Bulletin 114:494), the same as the rank-biserial correlation:
    1 where every value of the first group is above every value of the second, -1 the other way, 0 for no order."""


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's chi-square test of a table of counts, without Yates' correction, as in SPSS and Wan et al."""

    statistic: float
    degrees_of_freedom: int
    p: float
    smallest_expected: float
    """Smallest count expected in a cell; below 5 the p of the test is rough (Cochran 1954)."""


def compare_groups(first: Sequence[float], second: Sequence[float]) -> GroupDifference | None:
    """Compute Mann-Whitney U of two groups; return None where one is empty."""
    if not first or not second:
        return None
    found = stats.mannwhitneyu(first, second, alternative="two-sided")
    u = float(found.statistic)
    # Where all values are equal, scipy's variance is 0 and its p not a number, and there is no difference.
    p = float(found.pvalue) if len({*first, *second}) > 1 else 1.0
    return GroupDifference(u, p, 2 * u / (len(first) * len(second)) - 1)


def compare_pairs(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; None without pairs, 1 where no pair differs."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    if not first:
        return None
    differences = np.asarray(first, float) - np.asarray(second, float)
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def chi_square(counts: ArrayLike) -> ChiSquare | None:
    """Compute Pearson's test of a table of counts; rows and columns without any count are left out.

    Returns None where fewer than two rows or columns are left.
    """
    table = np.asarray(counts, float)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(table.shape) < 2:
        return None
    found = stats.chi2_contingency(table, correction=False)
    return ChiSquare(
        statistic=float(found.statistic),
        degrees_of_freedom=int(found.dof),
        p=float(found.pvalue),
        smallest_expected=float(found.expected_freq.min()),
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct the p values of one family by Holm's method (Holm 1979, Scand J Stat 6:65); keep their order.

    The i-th smallest of m is multiplied by m - i + 1. None becomes smaller than the one before it or larger than 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return tuple(adjusted)
