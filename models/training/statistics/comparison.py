"""Whether groups differ: Mann-Whitney U with an effect size, chi-square, and Holm's correction. Knows no cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """Two independent groups of measurements, compared."""

    u: float
    """Mann-Whitney U of the first group (Mann and Whitney 1947): pairs in which its value is larger, ties half."""
    p: float
    """Two-sided; exact for small groups without ties, else by the normal approximation with ties and continuity."""
    cliffs_delta: float
    """2 U / (n1 n2) - 1 (Cliff 1993, Psychological Bulletin 114:494), the same as the rank-biserial correlation:
    1 where every value of the first group is above every value of the second, -1 the other way, 0 for no order."""


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's chi-square test of a table of counts, without Yates' correction, as SPSS and Wan et al. have it."""

    statistic: float
    degrees_of_freedom: int
    p: float
    smallest_expected: float
    """Least count that would be expected in a cell; below 5 the test's p is rough (Cochran 1954)."""


def compare_groups(first: Sequence[float], second: Sequence[float]) -> GroupDifference | None:
    """Mann-Whitney U of two groups; None where one is empty."""
    if not first or not second:
        return None
    found = stats.mannwhitneyu(first, second, alternative="two-sided")
    u = float(found.statistic)
    # Where all values are one and the same scipy's variance is 0 and its p not a number; there is no difference then.
    p = float(found.pvalue) if len({*first, *second}) > 1 else 1.0
    return GroupDifference(u, p, 2 * u / (len(first) * len(second)) - 1)


def compare_pairs(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test of paired values; None without pairs, 1 where no pair differs."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    if not first:
        return None
    differences = np.asarray(first, float) - np.asarray(second, float)
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def chi_square(counts: ArrayLike) -> ChiSquare | None:
    """Pearson's test of a table of counts; rows and columns without any count are left out.

    None where fewer than two rows or columns are left: there is nothing to compare.
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
    """P values of one family after Holm's correction (Holm 1979, Scand J Stat 6:65), in the order given.

    The i-th smallest of m is multiplied by m - i + 1; none gets smaller than the one before it, none passes 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return tuple(adjusted)
