"""Round the voxels of a label map to whole numbers, and refuse what lies between them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.dataset.writer import CaseRefused

_TOLERANCE = 0.008
"""A program that stores 0 to 4 in 8 bits with a slope (scl_slope of NIfTI) is off by half a step of 4/255; one that
stores them in 16 bits writes a 1 as 1.00002. Values between labels, as interpolation makes them, are far from both."""
_SHOWN = 6


def are_whole(values: NDArray[Any]) -> bool:
    """Return whether finite values are whole numbers within the rounding of a stored slope."""
    return bool((np.abs(values - np.rint(values)) <= _TOLERANCE).all())


def whole_numbers(voxels: NDArray[Any], name: str) -> NDArray[np.int32]:
    """Return the voxels of a label map as whole numbers; -0.0 becomes 0.

    Raises CaseRefused, with the values seen, if the map holds NaN, infinite or fractional values; `name` is the file's.
    """
    if not np.issubdtype(voxels.dtype, np.number) or np.iscomplexobj(voxels):
        raise CaseRefused(f"{name} holds colours or complex values and no label numbers. Save it as a label map.")
    if np.issubdtype(voxels.dtype, np.integer):
        return _in_range(voxels, name)
    if not np.isfinite(voxels).all():
        raise CaseRefused(f"{name} holds NaN or infinite values where a label map has 0. Save it with 0 there.")
    rounded = np.rint(voxels)
    between = np.abs(voxels - rounded) > _TOLERANCE
    if between.any():
        values = np.unique(voxels[between])
        shown = ", ".join(f"{value:.6g}" for value in values[:_SHOWN])
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        raise CaseRefused(
            f"{name} holds values that are no whole numbers ({shown}{more}), as interpolation makes them. Resample "
            "label maps with nearest neighbours, and save them as integers."
        )
    return _in_range(rounded, name)


def _in_range(voxels: NDArray[Any], name: str) -> NDArray[np.int32]:
    bounds = np.iinfo(np.int32)
    if voxels.size and (voxels.min() < bounds.min or voxels.max() > bounds.max):
        raise CaseRefused(f"{name} holds {voxels.max():g}, which is no label number. Check the file.")
    return voxels.astype(np.int32)
