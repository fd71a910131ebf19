"""Score lesion by lesion: which true lesions were detected, and which found lesions are true."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CONNECTED = np.ones((3, 3, 3), bool)
"""Voxels that share a corner belong to one lesion (26-connectivity), as in the node's own reports."""
SMALLEST_MM3 = 50.0
"""A smaller lesion counts as neither missed nor detected nor false, as in BraTS' lesion-wise metrics since 2023."""
SHARE = 0.1
"""Share of a lesion's voxels that must lie in the other mask."""
SMALLEST_FOCUS_MM3 = 500.0
"""A ball of 10 mm, the smallest lesion that RANO measures, has 524 mm3; smaller specks make no case multifocal."""


@dataclass(frozen=True, slots=True)
class LesionScore:
    """Counts of lesions of one label in one case, or added up in many. A found lesion that covers two detects both."""

    true: int
    """Lesions in the truth."""
    detected: int
    """True lesions of which the found mask covers SHARE or more."""
    found: int
    """Lesions in the found mask."""
    confirmed: int
    """Found lesions of which SHARE or more lies in the truth."""

    @property
    def sensitivity(self) -> float:
        """Detected / true lesions; 1 where there is none to detect."""
        return self.detected / self.true if self.true else 1.0

    @property
    def precision(self) -> float:
        """Confirmed / found lesions; 1 where nothing was found, and so nothing false."""
        return self.confirmed / self.found if self.found else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision: 1 where nothing is and nothing was found.

        It is 0 where all lesions were missed (sensitivity is 0) and where all that was found is false (precision is 0).
        """
        total = self.sensitivity + self.precision
        return 2 * self.sensitivity * self.precision / total if total else 0.0


def score_lesions(truth: NDArray[np.bool_], found: NDArray[np.bool_], voxel_mm3: float) -> LesionScore:
    """Match the lesions of two masks (slices, rows, columns) of one grid."""
    smallest = SMALLEST_MM3 / voxel_mm3
    true, detected = _covered(truth, found, smallest)
    of_found, confirmed = _covered(found, truth, smallest)
    return LesionScore(true, detected, of_found, confirmed)


def _covered(lesions: NDArray[np.bool_], by: NDArray[np.bool_], smallest_voxels: float) -> tuple[int, int]:
    """Count the lesions that are large enough, and those of them of which the other mask covers SHARE."""
    sizes, inside = _components(lesions, by)
    counted = sizes >= smallest_voxels
    return int(counted.sum()), int((counted & (inside >= SHARE * sizes)).sum())


def _components(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of voxels of each connected component, and how many of them lie in the other mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found or found[0] is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    box = found[0]
    numbers, count = ndimage.label(mask[box], structure=CONNECTED)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    inside = np.bincount(numbers[other[box]], minlength=count + 1)[1:]
    return sizes.astype(np.int64), inside.astype(np.int64)


def count_foci(masks: NDArray[np.bool_], voxel_mm3: float) -> int:
    """Count the foci of a case: large components of all labels (labels, slices, rows, columns) together."""
    whole: NDArray[np.bool_] = np.logical_or.reduce(masks)
    sizes, _ = _components(whole, whole)
    return int((sizes * voxel_mm3 >= SMALLEST_FOCUS_MM3).sum())


def pool(scores: Iterable[LesionScore]) -> LesionScore:
    """Add up the lesions of many cases; no convention for empty cases enters the result."""
    every = tuple(scores)
    return LesionScore(
        true=sum(each.true for each in every),
        detected=sum(each.detected for each in every),
        found=sum(each.found for each in every),
        confirmed=sum(each.confirmed for each in every),
    )
