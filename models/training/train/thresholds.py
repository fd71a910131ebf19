"""Choose the threshold of each label on cases whose truth is known."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from models.package import OutputLabel
from pipeline.measure import dice

CANDIDATES = tuple(round(0.2 + 0.05 * step, 2) for step in range(15))
"""Thresholds to choose from: 0.2 to 0.9 in steps of 0.05."""
_AS_GOOD = 0.005
"""Means of Dice closer than this are equal: a few tiny lesions decide between them, at the cost of larger outlines."""

Masks = NDArray[np.bool_]
"""(labels, slices, rows, columns)"""


@dataclass(frozen=True, slots=True)
class SegmentedCase:
    """A case as a network segments it, and its truth, on the grid on which masks are compared."""

    masks_at: Callable[[float], Masks]
    """The masks at a threshold that all labels share."""
    truth: Masks
    known: tuple[bool, ...]
    """Whether the case has each label, empty or not; a label that it does not have is not counted."""
    channels: tuple[Role, ...]
    """The channels that the network saw."""
    complete: bool = True
    """Whether these are all that the case has; else the case does not vote on thresholds."""


@dataclass(frozen=True, slots=True)
class TunedLabel:
    """The threshold of one label, and what it gives on the cases that it was chosen on."""

    label: str
    threshold: float
    dice: tuple[float, ...]
    """By case that has the label; 1 where truth and finding are both empty, 0 where one of them is."""
    empty: int
    """Cases whose truth is empty."""

    @property
    def is_measured(self) -> bool:
        """Return whether a case holds the label; else threshold and Dice come from nothing."""
        return self.empty < len(self.dice)

    @property
    def mean_dice(self) -> float:
        """Return the mean Dice over the cases that have the label; NaN if none has it."""
        return statistics.fmean(self.dice) if self.dice else math.nan


@dataclass(frozen=True, slots=True)
class SubsetDice:
    """Dice at the chosen thresholds where the network sees some of its channels only."""

    channels: tuple[Role, ...]
    dice: tuple[tuple[float, ...], ...]
    """By label and case; a label has as many values as cases that have it."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured on the cases on which thresholds were chosen; both empty if there were no cases."""

    labels: tuple[TunedLabel, ...] = ()
    """In the order of the package."""
    subsets: tuple[SubsetDice, ...] = ()
    """Sorted: the largest subset first, equal ones by name."""


def tune(labels: tuple[OutputLabel, ...], tuning_cases: Iterable[SegmentedCase]) -> Tuned:
    """Choose, for each label, the threshold of the highest mean Dice, on cases with all the channels that they have.

    A case that does not have a label, or whose truth is empty, does not vote on its threshold. Of near equals, the one
    nearest 0.5 wins. A label without a vote keeps its threshold.
    """
    scores = [_score(case) for case in tuning_cases]
    complete = [score for score in scores if score.complete]
    tuned = tuple(_tuned(number, label, complete) for number, label in enumerate(labels))
    at = [_nearest(each.threshold) for each in tuned]
    seen = sorted({score.channels for score in scores}, key=lambda channels: (-len(channels), channels))
    subsets = tuple(
        SubsetDice(
            channels,
            tuple(
                tuple(score.dice[number][at[number]] for score in scores
                      if score.channels == channels and score.known[number])
                for number in range(len(labels))
            ),
        )
        for channels in seen
    )  # fmt: skip
    return Tuned(tuned if scores else (), subsets)


@dataclass(frozen=True, slots=True)
class _Score:
    """What is kept of a case: few numbers, as its masks are many voxels."""

    dice: tuple[tuple[float, ...], ...]
    """For each label the Dice at each of CANDIDATES."""
    known: tuple[bool, ...]
    holds: tuple[bool, ...]
    """Whether the truth of each label has a voxel."""
    channels: tuple[Role, ...]
    complete: bool


def _score(case: SegmentedCase) -> _Score:
    rows = [
        tuple(dice(*masks) for masks in zip(case.masks_at(candidate), case.truth, strict=True))
        for candidate in CANDIDATES
    ]
    holds = tuple(bool(mask.any()) for mask in case.truth)
    return _Score(tuple(zip(*rows, strict=True)), case.known, holds, case.channels, case.complete)


def _tuned(number: int, label: OutputLabel, scores: Sequence[_Score]) -> TunedLabel:
    knowing = [score for score in scores if score.known[number]]
    voting = [list(score.dice[number]) for score in knowing if score.holds[number]]
    threshold = best_threshold(voting, label.threshold)
    at = _nearest(threshold)
    return TunedLabel(
        label.name, threshold, tuple(score.dice[number][at] for score in knowing), len(knowing) - len(voting)
    )


def _nearest(threshold: float) -> int:
    return min(range(len(CANDIDATES)), key=lambda number: abs(CANDIDATES[number] - threshold))


def best_threshold(scores: list[list[float]], otherwise: float) -> float:
    """Return the candidate nearest 0.5 among those whose mean Dice is within 0.005 of the best.

    `scores` holds, for each case, the Dice at each of CANDIDATES; without any case, `otherwise` is returned.
    """
    if not scores:
        return otherwise
    means = np.mean(scores, axis=0)
    best = [candidate for candidate, mean in zip(CANDIDATES, means, strict=True) if mean >= means.max() - _AS_GOOD]
    return min(best, key=lambda candidate: abs(candidate - 0.5))
