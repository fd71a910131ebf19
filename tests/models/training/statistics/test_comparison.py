"""Comparisons reproduce the tables of Wan et al. 2024, and agree with counting by hand."""

from itertools import combinations, product

import numpy as np
import pytest

from models.training.statistics.comparison import chi_square, compare_groups, compare_pairs, holm

# Table 3 of Wan et al.: counts of the scores 2, 3, 4, 5 in two subgroups, and the printed p.
TABLE_3 = {
    "model, unifocal or multifocal": ([[3, 31, 30, 10], [3, 11, 7, 2]], 0.357),
    "model, new or recurrent": ([[0, 5, 8, 3], [6, 37, 29, 9]], 0.367),
    "manual, unifocal or multifocal": ([[0, 30, 33, 11], [2, 12, 9, 0]], 0.015),
    "manual, new or recurrent": ([[0, 4, 9, 3], [2, 38, 33, 8]], 0.315),
}
# Table 2: model by row, manual by column, scores 2 to 5.
TABLE_2 = [[0, 1, 5, 0], [0, 23, 17, 2], [2, 15, 13, 7], [0, 3, 7, 2]]


@pytest.mark.parametrize("name", TABLE_3)
def test_chi_square_is_that_of_table_3(name: str) -> None:
    counts, printed = TABLE_3[name]
    found = chi_square(counts)
    assert round(found.p, 3) == printed
    assert found.degrees_of_freedom == 3


def test_chi_square_of_table_2_is_printed_too() -> None:
    found = chi_square(TABLE_2)
    assert round(found.p, 3) == 0.107


def test_chi_square_by_hand() -> None:
    found = chi_square([[10, 20, 0], [20, 10, 0]])  # the empty column is left out; each cell expects 15
    assert found.statistic == pytest.approx(4 * 5**2 / 15)
    assert (found.degrees_of_freedom, found.smallest_expected) == (1, 15)
    assert chi_square([[3, 0], [4, 0]]) is None
    assert chi_square([[0, 0], [0, 0]]) is None


def test_mann_whitney_by_counting() -> None:
    first, second = [0.9, 0.8, 0.7], [0.75, 0.3, 0.2, 0.1]
    found = compare_groups(first, second)
    larger = sum(one > other for one, other in product(first, second))
    assert found.u == larger == 11
    assert found.cliffs_delta == pytest.approx((11 - 1) / 12)
    # Exactly: of the 35 ways of choosing which three ranks are the first group's, those at least as extreme, both ways.
    ranks = [sorted(first + second).index(value) for value in first]
    sums = [sum(choice) for choice in combinations(range(7), 3)]
    assert len(sums) == 35
    assert found.p == pytest.approx(2 * sum(total >= sum(ranks) for total in sums) / 35)


def test_mann_whitney_at_its_ends() -> None:
    above = compare_groups([5, 6], [1, 2])
    below = compare_groups([1, 2], [5, 6])
    same = compare_groups([0.0, 0.0, 0.0], [0.0, 0.0])
    assert (above.cliffs_delta, below.cliffs_delta) == (1, -1)
    assert (same.cliffs_delta, same.p) == (0, 1)
    assert compare_groups([], [1.0]) is None


def test_signed_ranks_by_counting() -> None:
    # Five differences of one sign: of 2^5 signs only two are as extreme.
    assert compare_pairs([2, 4, 6, 8, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert compare_pairs([1, 2], [1, 2]) == 1
    assert compare_pairs([], []) is None
    with pytest.raises(ValueError, match="cannot be paired"):
        compare_pairs([1], [])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()
    some = np.random.default_rng(3).random(9).tolist()
    assert [place for place, _ in sorted(enumerate(some), key=lambda item: item[1])] == sorted(
        range(9), key=lambda place: (holm(some)[place], some[place])
    )
