"""Letters for directions and places in the patient, as PS3.3 C.7.6.1.1.1 and every viewer write them."""

import numpy as np
from numpy.typing import NDArray

from pipeline.volume import Geometry, Vector

_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Towards lower and higher values of the axes of LPS coordinates."""
_NAMED_FROM = 0.25
"""Smallest part of a direction that gets a letter: an axis off by less than about 15 degrees is called straight."""


def orientation_letters(direction: Vector) -> str:
    """Where a world vector (LPS, any length) points, strongest part first: "L", "AR", "HPL"."""
    unit = _unit(direction)
    axes = sorted(range(3), key=lambda axis: -abs(unit[axis]))
    return "".join(_LETTERS[axis][int(unit[axis] > 0)] for axis in axes if abs(unit[axis]) >= _NAMED_FROM)


def opposite_letters(letters: str) -> str:
    """The letters of the opposite direction."""
    return letters.translate(str.maketrans("RLAPFH", "LRPAHF"))


def slice_place(geometry: Geometry, index: int) -> str:
    """Where the middle of slice `index` stands along the axis that the slices follow most, e.g. "H 34.5 mm"."""
    centre = geometry.affine @ (index, (geometry.shape[1] - 1) / 2, (geometry.shape[2] - 1) / 2, 1.0)
    normal = np.cross(geometry.column_step_mm, geometry.row_step_mm)
    axis = int(np.abs(normal).argmax())
    return f"{_LETTERS[axis][int(centre[axis] > 0)]} {abs(centre[axis]):.1f} mm"


def _unit(direction: Vector) -> NDArray[np.float64]:
    vector = np.array(direction, float)
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
