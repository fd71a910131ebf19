"""The threshold nearest 0.5 wins unless another is clearly better."""

import numpy as np

from models.labels import Role
from models.package import OutputLabel
from models.training.train.model_card import _thresholds
from models.training.train.thresholds import CANDIDATES, Masks, SegmentedCase, best_threshold, tune


def case(
    truth: Masks, channels: tuple[Role, ...] = (Role.T1CE,), complete: bool = True, known: bool = True
) -> SegmentedCase:
    """Return a case of one label in which the truth is found at every threshold."""
    return SegmentedCase(lambda _: truth, truth, (known,), channels, complete)


def test_a_threshold_nearer_to_a_half_wins_unless_it_costs_half_a_percent() -> None:
    at = {0.25: 0.746, 0.3: 0.744, 0.35: 0.736}
    means = [at.get(candidate, 0.5) for candidate in CANDIDATES]
    assert best_threshold([means, means], 0.5) == 0.3
    assert best_threshold([], 0.45) == 0.45


def test_a_case_without_a_label_is_not_counted_and_a_smaller_subset_has_no_vote() -> None:
    """The second case says nothing of the label; the third found it in 0 voxels, but on fewer channels."""
    there = np.ones((1, 2, 2, 2), bool)
    label = OutputLabel("whole_tumour", 0.5)
    missed = SegmentedCase(lambda threshold: there & (threshold > 0.8), there, (True,), (Role.FLAIR,), complete=False)
    whole = (Role.FLAIR, Role.T1CE)
    found = tune((label,), [case(there, whole), case(~there, whole, known=False), missed])
    assert [(each.threshold, each.dice) for each in found.labels] == [(0.5, (1.0,))]
    assert [(each.channels, each.dice) for each in found.subsets] == [(whole, ((1.0,),)), ((Role.FLAIR,), ((0.0,),))]
    (nothing,) = tune((label,), [case(~there, known=False)]).labels
    assert not nothing.is_measured
    assert np.isnan(nothing.mean_dice)


def test_a_threshold_that_was_chosen_on_nothing_is_no_measurement() -> None:
    """Where no case holds a label, Dice is 1 wherever nothing is found."""
    nothing = np.zeros((1, 2, 2, 2), bool)
    label = OutputLabel("enhancing_tumour", 0.5)
    (tuned,) = tune((label,), [case(nothing)] * 2).labels
    assert (tuned.threshold, tuned.mean_dice, tuned.is_measured) == (0.5, 1.0, False)
    card = _thresholds((tuned,))
    assert "| enhancing_tumour | 0.5, not chosen | 2 | all | unknown | unknown | unknown |" in card
    assert "Mean of the labels: **unknown**" in card
    (some,) = tune((label,), [case(~nothing), case(nothing)]).labels
    assert some.is_measured
    assert "Mean of the labels: **1.000**" in _thresholds((some, tuned))
