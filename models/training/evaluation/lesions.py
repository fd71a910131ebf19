"""Score lesion by lesion: which true ones were detected, which found ones are there. Knows no labels and no files."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CONNECTED = np.ones((3, 3, 3), bool)
"""Voxels that share a corner belong to one lesion (26-connectivity), as in the node's own reports."""
SMALLEST_MM3 = 50.0
"""A smaller lesion is neither missed nor detected nor false, as in BraTS' lesion-wise metrics since 2023."""
SHARE = 0.1
"""Part of a lesion's voxels that has to lie in the other mask."""
SMALLEST_FOCUS_MM3 = 500.0
"""A ball of 10 mm, the smallest lesion that RANO measures, has 524 mm3; smaller specks make no case multifocal."""


@dataclass(frozen=True, slots=True)
class LesionScore:
    """Lesions of one label in one case or, added up, in many. A lesion that merges two others detects both."""

    true: int
    """Lesions in the truth."""
    detected: int
    """Those of them of which the found mask covers SHARE or more."""
    found: int
    """Lesions in the found mask."""
    confirmed: int
    """Those of them of which SHARE or more lies in the truth."""

    @property
    def sensitivity(self) -> float:
        """Detected of the true; 1 where there is none to detect."""
        return self.detected / self.true if self.true else 1.0

    @property
    def precision(self) -> float:
        """Confirmed of the found; 1 where nothing was found, so nothing false."""
        return self.confirmed / self.found if self.found else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both: 1 for nothing found where nothing is, 0 where all is missed or all is false.

        Where there are true lesions and nothing was found, sensitivity is 0; where all is false, precision is.
        """
        total = self.sensitivity + self.precision
        return 2 * self.sensitivity * self.precision / total if total else 0.0


def score_lesions(truth: NDArray[np.bool_], found: NDArray[np.bool_], voxel_mm3: float) -> LesionScore:
    """Match the lesions of two masks (slices, rows, columns) of one grid."""
    fewest = SMALLEST_MM3 / voxel_mm3
    true, detected = _covered(truth, found, fewest)
    of_found, confirmed = _covered(found, truth, fewest)
    return LesionScore(true, detected, of_found, confirmed)


def _covered(lesions: NDArray[np.bool_], by: NDArray[np.bool_], fewest_voxels: float) -> tuple[int, int]:
    """How many lesions are large enough, and of how many of these the other mask covers SHARE."""
    sizes, inside = _components(lesions, by)
    counted = sizes >= fewest_voxels
    return int(counted.sum()), int((counted & (inside >= SHARE * sizes)).sum())


def _components(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of each connected component, and how many of these lie in the other mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found or found[0] is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    box = found[0]
    numbers, count = ndimage.label(mask[box], structure=CONNECTED)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    inside = np.bincount(numbers[other[box]], minlength=count + 1)[1:]
    return sizes.astype(np.int64), inside.astype(np.int64)


def count_foci(masks: NDArray[np.bool_], voxel_mm3: float) -> int:
    """Separate foci of a case: components of all labels together (labels, slices, rows, columns), specks left out."""
    whole: NDArray[np.bool_] = np.logical_or.reduce(masks)
    sizes, _ = _components(whole, whole)
    return int((sizes * voxel_mm3 >= SMALLEST_FOCUS_MM3).sum())


def pool(scores: Iterable[LesionScore]) -> LesionScore:
    """The lesions of many cases in one count; no convention for empty cases weighs in it."""
    every = tuple(scores)
    return LesionScore(
        true=sum(each.true for each in every),
        detected=sum(each.detected for each in every),
        found=sum(each.found for each in every),
        confirmed=sum(each.confirmed for each in every),
    )
