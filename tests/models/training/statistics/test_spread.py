"""Median, quartiles and interval are right, and equal for equal seeds."""

import numpy as np
import pytest

from models.training.statistics.spread import spread

# The margins of table 2 of Wan et al. 2024: how often each score from 2 to 5 was given.
MODEL = np.repeat([2, 3, 4, 5], [6, 42, 37, 12]).tolist()
MANUAL = np.repeat([2, 3, 4, 5], [2, 42, 42, 11]).tolist()


@pytest.mark.parametrize(("scores", "mean", "deviation"), [(MODEL, 3.567, 0.789), (MANUAL, 3.639, 0.710)])
def test_mean_and_deviation_are_those_of_table_2(scores: list[float], mean: float, deviation: float) -> None:
    found = spread(scores, seed=0)
    assert (round(found.mean, 3), round(found.standard_deviation, 3), found.count) == (mean, deviation, 97)


def test_quartiles_by_hand() -> None:
    found = spread([5, 1, 2, 4, 3], seed=0)
    assert (found.median, found.quartiles, found.lowest, found.highest) == (3, (2, 4), 1, 5)


def test_the_interval_is_seeded_and_covers() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        found = spread(generator.normal(size=25).tolist(), seed)
        low, high = found.median_interval
        assert low <= found.median <= high
        hits += low <= 0 <= high
    # 95 of 100 in the long run; fewer than 87 or more than 99 would come about less than once in 500 tries.
    assert 87 <= hits <= 99
    sample = generator.normal(size=400).tolist()
    assert spread(sample, 7) == spread(sample, 7)
    assert len({spread(sample, seed) for seed in range(10)}) > 1


def test_few_and_equal_values() -> None:
    assert spread([], 0) is None
    one, two = spread([0.5], 0), spread([0.25, 0.75], 0)
    assert (one.median, one.standard_deviation, one.median_interval) == (0.5, None, None)
    assert (two.median, two.median_interval) == (0.5, None)
    equal = spread([0.0] * 5, 0)
    assert equal.median_interval == (0, 0)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        spread([0.5, float("nan")], 0)
