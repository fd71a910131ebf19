"""Agreement is as printed in the papers that defined it, and as computed by other formulas."""

from itertools import product

import numpy as np
import pytest

from models.training.statistics.agreement import intraclass_correlation, weighted_kappa

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Six targets and four judges: table 2 of Shrout and Fleiss 1979."""


def test_icc_is_that_of_shrout_and_fleiss() -> None:
    icc = intraclass_correlation(SHROUT_FLEISS)
    single = (icc.one_way, icc.agreement, icc.consistency)
    of_means = (icc.one_way_mean, icc.agreement_mean, icc.consistency_mean)
    assert single == pytest.approx((0.1657, 0.2898, 0.7148), abs=5e-5)
    assert of_means == pytest.approx((0.4428, 0.6201, 0.9093), abs=5e-5)
    assert (icc.subjects, icc.raters) == (6, 4)
    # R's psych::ICC prints 0.34 to 0.95 for ICC3 of this example.
    assert icc.consistency_interval == pytest.approx((0.34, 0.95), abs=5e-3)


def test_consistency_forgives_a_strict_rater_and_agreement_does_not() -> None:
    subjects = np.array([1.0, 2, 3, 4, 5])
    icc = intraclass_correlation(np.stack([subjects, subjects - 1], axis=1))
    assert icc.consistency == pytest.approx(1)
    assert icc.consistency_interval == (1, 1)
    # Shift 1 between two raters: BMS 5, JMS 2.5, EMS 0 give 5 / (5 + 2 * 2.5 / 5).
    assert icc.agreement == pytest.approx(5 / 6)


def test_icc_of_equal_ratings_is_none() -> None:
    assert intraclass_correlation([[3, 3], [3, 3], [3, 3]]) is None


def forms(ratings: list[list[int]]) -> tuple[float | None, ...]:
    icc = intraclass_correlation(ratings)
    single = (icc.one_way, icc.agreement, icc.consistency)
    return (*single, icc.one_way_mean, icc.agreement_mean, icc.consistency_mean)


def test_a_form_that_is_not_defined_is_none_and_not_zero() -> None:
    # BMS 0, WMS 1/2, JMS 0, EMS 1: ICC(2,1) is -1 / 0, ICC(1,k) and ICC(3,k) too; of ICC(2,k) the whole is below 0.
    assert forms([[3, 4], [4, 3]]) == (-1, None, -1, None, None, None)
    # BMS 0, WMS 1/2, JMS 3/2, EMS 0: subjects alike, one rater stricter.
    assert forms([[3, 4], [3, 4], [3, 4]]) == (-1, 0, None, None, 0, None)
    icc = intraclass_correlation([[3, 4], [3, 4], [3, 4]])
    assert icc.consistency_interval is None


def test_every_small_table_has_its_forms() -> None:
    """No table of scores divides by zero, and no form is beyond 1."""
    for ratings in product(range(1, 4), repeat=6):
        for shape in ((3, 2), (2, 3)):
            icc = intraclass_correlation(np.reshape(ratings, shape))
            if icc is not None:
                values = forms(np.reshape(ratings, shape).tolist())
                assert all(value is None or value <= 1 + 1e-9 for value in values), ratings


@pytest.mark.parametrize("ratings", [[[1, 2]], [[1], [2]], [1, 2], [[1, np.nan], [2, 3]]])
def test_icc_refuses_what_it_is_not_made_for(ratings: list[object]) -> None:
    with pytest.raises(ValueError, match="ICC needs"):
        intraclass_correlation(ratings)


def test_kappa_by_hand() -> None:
    # Of ten pairs on a scale of three: observed sum of squares 4 (four pairs one step apart).
    # Both margins are (4, 4, 2), so chance expects (4*4*2 + 2*4*2*1 ... ) / 10, summed over all pairs below.
    first = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    second = [1, 1, 1, 2, 2, 2, 1, 3, 3, 2]
    expected = sum((one - other) ** 2 for one, other in product(first, second)) / 10
    assert weighted_kappa(first, second, (1, 2, 3)) == pytest.approx(1 - 4 / expected)


def test_quadratic_kappa_is_lins_concordance() -> None:
    """Fleiss and Cohen 1973: with equal steps it is 2 cov / (var + var + (difference of means)^2)."""
    generator = np.random.default_rng(1)
    first = generator.integers(1, 6, 200)
    second = np.clip(first + generator.integers(-1, 2, 200), 1, 5)
    covariance = np.cov(first, second, ddof=0)
    concordance = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (first.mean() - second.mean()) ** 2)
    assert weighted_kappa(first.tolist(), second.tolist(), range(1, 6)) == pytest.approx(concordance)


def test_kappa_at_its_ends() -> None:
    assert weighted_kappa([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], range(1, 6)) == 1
    assert weighted_kappa([1, 5], [5, 1], range(1, 6)) == -1
    assert weighted_kappa([3, 3], [3, 3], range(1, 6)) is None
    assert weighted_kappa([], [], range(1, 6)) is None
    with pytest.raises(ValueError, match="rating 6 is not on the scale"):
        weighted_kappa([6], [1], range(1, 6))
    with pytest.raises(ValueError, match="cannot be compared"):
        weighted_kappa([1, 2], [1], range(1, 6))
