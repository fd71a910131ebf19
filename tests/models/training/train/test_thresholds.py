"""The threshold nearest 0.5 wins unless another is clearly better."""

import numpy as np

from models.package import OutputLabel
from models.training.train.model_card import _thresholds
from models.training.train.thresholds import CANDIDATES, SegmentedCase, best_threshold, tune


def test_a_threshold_nearer_to_a_half_wins_unless_it_costs_half_a_percent() -> None:
    at = {0.25: 0.746, 0.3: 0.744, 0.35: 0.736}
    means = [at.get(candidate, 0.5) for candidate in CANDIDATES]
    assert best_threshold([means, means], 0.5) == 0.3
    assert best_threshold([], 0.45) == 0.45


def test_a_threshold_that_was_chosen_on_nothing_is_no_measurement() -> None:
    """Where no case holds a label, Dice is 1 wherever nothing is found."""
    nothing = np.zeros((1, 2, 2, 2), bool)
    label = OutputLabel("enhancing_tumour", 0.5)
    (tuned,) = tune((label,), [SegmentedCase(lambda _: nothing, nothing)] * 2)
    assert (tuned.threshold, tuned.mean_dice, tuned.is_measured) == (0.5, 1.0, False)
    card = _thresholds((tuned,))
    assert "| enhancing_tumour | 0.5, not chosen | 2 | all | unknown | unknown | unknown |" in card
    assert "Mean of the labels: **unknown**" in card
    (some,) = tune((label,), [SegmentedCase(lambda _: ~nothing, ~nothing), SegmentedCase(lambda _: nothing, nothing)])
    assert some.is_measured
    assert "Mean of the labels: **1.000**" in _thresholds((some, tuned))
