"""Choose the threshold of each label on cases whose truth is known."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class TunedLabel:
    """The threshold of one label, and what it gives on the cases that it was chosen on."""

    label: str
    threshold: float
    dice: tuple[float, ...]
    """By case; 1 where truth and finding are both empty, 0 where one of them is."""
    empty: int
    """Cases whose truth lacks the label."""

    @property
    def is_measured(self) -> bool:
        """Return whether a case holds the label; else threshold and Dice come from nothing."""
        return self.empty < len(self.dice)

    @property
    def mean_dice(self) -> float:
        """Return the mean Dice over all cases."""
        return statistics.fmean(self.dice)


def tune(labels: tuple[OutputLabel, ...], tuning_cases: Iterable[SegmentedCase]) -> tuple[TunedLabel, ...]:
    """Choose, for each label, the threshold of the highest mean Dice; empty if there are no cases.

    Cases whose truth lacks a label do not vote on its threshold. Of near equals, the one nearest 0.5 wins. A label that
    no case has keeps its threshold.
    """
    scores: list[list[list[float]]] = [[] for _ in labels]
    present: list[list[bool]] = [[] for _ in labels]
    for case in tuning_cases:
        rows = [
            [dice(*masks) for masks in zip(case.masks_at(candidate), case.truth, strict=True)]
            for candidate in CANDIDATES
        ]
        for number, by_candidate in enumerate(zip(*rows, strict=True)):
            scores[number].append(list(by_candidate))
            present[number].append(bool(case.truth[number].any()))
    return tuple(_tuned(*each) for each in zip(labels, scores, present, strict=True) if each[1])


def _tuned(label: OutputLabel, scores: list[list[float]], present: list[bool]) -> TunedLabel:
    voting = [row for row, votes in zip(scores, present, strict=True) if votes]
    threshold = best_threshold(voting, label.threshold)
    at = CANDIDATES.index(threshold)
    return TunedLabel(label.name, threshold, tuple(row[at] for row in scores), present.count(False))


def best_threshold(scores: list[list[float]], otherwise: float) -> float:
    """Return the candidate nearest 0.5 among those whose mean Dice is within 0.005 of the best.

    `scores` holds, for each case, the Dice at each of CANDIDATES; without any case, `otherwise` is returned.
    """
    if not scores:
        return otherwise
    means = np.mean(scores, axis=0)
    best = [candidate for candidate, mean in zip(CANDIDATES, means, strict=True) if mean >= means.max() - _AS_GOOD]
    return min(best, key=lambda candidate: abs(candidate - 0.5))
