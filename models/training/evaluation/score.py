"""Compare a found mask with the true one: overlap, distance, volume, lesions.

Every metric is defined for empty masks as well, so that no case is dropped. docs/evaluate.md has all conventions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.training.evaluation.lesions import LesionScore, score_lesions
from pipeline.measure import dice
from pipeline.volume import Vector

Mask = NDArray[np.bool_]
"""(slices, rows, columns)"""
Masks = NDArray[np.bool_]
"""(labels, slices, rows, columns)"""

NOT_FOUND_MM = float(np.sqrt(240**2 + 240**2 + 155**2))
"""Distance where one of two masks is empty: 373.13 mm, the diagonal of BraTS' volume. The lesion-wise metrics of BraTS
use 374 since 2023. It is the same for every case, whatever its field of view."""
PERCENTILE = 95.0


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well a label was found in a case."""

    label: str
    dice: float
    """2 |A and B| / (|A| + |B|) (Dice 1945, Ecology 26:297); 1 where both are empty, 0 where one is."""
    hd95_mm: float
    """95th percentile of the Hausdorff distance, see the function `hd95_mm`."""
    true_ml: float
    found_ml: float
    lesions: LesionScore

    @property
    def is_present(self) -> bool:
        """Whether the truth holds the label."""
        return self.true_ml > 0

    @property
    def difference_ml(self) -> float:
        """Found minus true volume."""
        return self.found_ml - self.true_ml

    @property
    def difference_percent(self) -> float:
        """Found minus true volume in percent of their mean (Bland and Altman 1999, Stat Methods Med Res 8:135).

        From -200 (all missed) to 200 (all false), and 0 where both are empty. Percent of the true volume would not be
        defined for an empty truth.
        """
        both = self.found_ml + self.true_ml
        return 200.0 * self.difference_ml / both if both else 0.0


def score_label(label: str, truth: Mask, found: Mask, spacing_mm: Vector) -> LabelScore:
    """Compute all metrics of one label; both masks are on one grid, whose slices, rows, columns have this spacing."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return LabelScore(
        label=label,
        dice=dice(found, truth),
        hd95_mm=hd95_mm(truth, found, spacing_mm),
        true_ml=float(np.count_nonzero(truth)) * voxel_ml,
        found_ml=float(np.count_nonzero(found)) * voxel_ml,
        lesions=score_lesions(truth, found, voxel_ml * 1000),
    )


def hd95_mm(truth: Mask, found: Mask, spacing_mm: Vector) -> float:
    """Return the 95th percentile of the Hausdorff distance (Huttenlocher et al. 1993, IEEE TPAMI 15:850), in mm.

    Distances go from the centre of each surface voxel of one mask to the nearest of the other; of the two directions
    the larger percentile counts. Surface voxels have a face towards the outside. The result is 0 where both masks are
    empty, NOT_FOUND_MM where one is, and never more.
    """
    if not truth.any() or not found.any():
        return NOT_FOUND_MM if truth.any() or found.any() else 0.0
    (box,) = ndimage.find_objects((truth | found).astype(np.uint8))
    true_surface, found_surface = (_surface(np.pad(mask[box], 1)) for mask in (truth, found))
    to_truth = _distances(found_surface, true_surface, spacing_mm)
    to_found = _distances(true_surface, found_surface, spacing_mm)
    return min(max(float(np.percentile(each, PERCENTILE)) for each in (to_truth, to_found)), NOT_FOUND_MM)


def _surface(mask: Mask) -> Mask:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distances(points: Mask, surface: Mask, spacing_mm: Vector) -> NDArray[np.float64]:
    """Return the distance from each point to the nearest voxel of the surface."""
    distances: NDArray[np.float64] = ndimage.distance_transform_edt(~surface, sampling=spacing_mm)[points]
    return distances
