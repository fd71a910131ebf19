"""Letters for directions and positions in the patient (PS3.3 C.7.6.1.1.1), as viewers write them."""

import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Geometry, Vector

_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Towards lower and higher values of the axes of LPS coordinates."""
_SMALLEST_NAMED = 0.25
"""Smallest component of a unit vector that gets a letter, so tilts of less than about 15 degrees are not mentioned."""


def orientation_letters(direction: Vector) -> str:
    """Return the letters of a direction (LPS, any length), largest component first: "L", "AR", "HPL"."""
    unit: NDArray[np.float64] = np.array(direction, float) / np.linalg.norm(direction)
    axes = sorted(range(3), key=lambda axis: -abs(unit[axis]))
    return "".join(_LETTERS[axis][int(unit[axis] > 0)] for axis in axes if abs(unit[axis]) >= _SMALLEST_NAMED)


def opposite_letters(letters: str) -> str:
    """Return the letters of the opposite direction."""
    return letters.translate(str.maketrans("RLAPFH", "LRPAHF"))


def slice_position(geometry: Geometry, index: int) -> str:
    """Return the position of the middle of slice `index` along the axis nearest to its normal, e.g. "H 34.5 mm"."""
    centre = geometry.affine @ (index, (geometry.shape[1] - 1) / 2, (geometry.shape[2] - 1) / 2, 1.0)
    normal = np.cross(geometry.column_step_mm, geometry.row_step_mm)
    axis = int(np.abs(normal).argmax())
    return f"{_LETTERS[axis][int(centre[axis] > 0)]} {abs(centre[axis]):.1f} mm"
