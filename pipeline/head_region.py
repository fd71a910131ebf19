"""Find the part of the head that a study has to show.

That is the region of the brain and not the whole head: a sagittal T1CE shows face and neck, axial slices of a good
study end at the foramen magnum, and an ADC map is often masked to the brain. The region is the tissue at least
DEPTH_MM below the skin (scalp and skull take about that much, and the edges of masks and of coils stay outside), from
the top of the head down to BELOW_TOP_MM, less far in front and farther behind (SLOPE), as the base of the brain slopes:
in adults the orbital roofs lie about 75 mm below the top of the head and the foramen magnum about 125 mm. Axial slices
that are tilted to that slope, or less, show the region whole.

A head that every series cuts is completed, so that its missing part counts as not seen: above a flat top by a dome,
below by its lowest cross section.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
"""(slices, rows, columns) on a grid whose slices go to the head, rows to the back and columns to the left."""

DEPTH_MM = 12.0
BELOW_TOP_MM = 95.0
"""How far below the top of the head the region reaches, in its middle."""
SLOPE = 0.25
"""How much farther it reaches for each millimetre towards the back."""
_LOWEST_MM = 120.0
"""Where the region ends at the back of the head, rounded up."""
_RADIUS_MM = 80.0
"""Of the dome of an adult's head."""
_ROUND_MM = 12.0
"""A head that narrows from half of its largest cross section to nothing within less is cut: a whole one takes twice
that above, and one that is cut obliquely less."""
_UPPER_MM = 80.0
"""The part of the head below its top in which its middle between front and back is found; lower down is the neck."""


def completed(head: Mask, in_field: Mask, grid_mm: float) -> tuple[Mask, int, int]:
    """Return a head with what every series cut off, and the numbers of planes that were added below and above.

    `in_field` is the places that any series shows: a head that ends well within it, as a skull-stripped one does, is
    not cut below.
    """
    if not head.any():
        return head, 0, 0
    areas, field = head.sum(axis=(1, 2)), in_field.sum(axis=(1, 2))
    planes, wide = np.flatnonzero(areas), np.flatnonzero(2 * areas >= areas.max())
    low, high = int(wide[0]), int(wide[-1])
    flat = (planes[-1] - high) * grid_mm < _ROUND_MM
    dome = _dome(head[high], float(areas[high] / areas.max()), grid_mm) if flat else head[:0]
    top = max(high + len(dome), int(planes[-1]))
    within = (low - np.flatnonzero(2 * field >= field.max())[0]) * grid_mm > _ROUND_MM
    bottom = low if within else min(low, top - round(_LOWEST_MM / grid_mm))
    below, above = max(0, -bottom), max(0, top + 1 - len(head))
    whole = np.pad(head, ((below, above), (0, 0), (0, 0)))
    whole[high + below + 1 : high + below + 1 + len(dome)] |= dome
    whole[bottom + below : low + below] |= head[low]
    return whole, below, above


def _dome(plane: Mask, part: float, grid_mm: float) -> Mask:
    """Return what a head has above one plane, (planes, rows, columns), whose area is `part` of the largest."""
    height_mm = _RADIUS_MM * (1 - np.sqrt(1 - part))
    heights = np.arange(grid_mm, height_mm, grid_mm)
    inward = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1]
    narrowed = 1 - np.sqrt(1 - (heights / height_mm) ** 2)
    planes: Mask = inward[None] > (narrowed * inward.max())[:, None, None]
    return planes


def head_region(head: Mask, grid_mm: float) -> Mask:
    """Return the part of a head that has to be seen; see the top of this module."""
    planes = np.flatnonzero(head.any(axis=(1, 2)))
    if not planes.size:
        return head
    inside = farther_inside(head, DEPTH_MM, grid_mm)
    upper = head[max(0, planes[-1] - round(_UPPER_MM / grid_mm)) :]
    rows = np.flatnonzero(upper.any(axis=(0, 2)))
    behind_mm = (np.arange(head.shape[1]) - (rows[0] + rows[-1]) / 2) * grid_mm
    below_mm = (planes[-1] - np.arange(head.shape[0])) * grid_mm
    reach_mm = BELOW_TOP_MM + SLOPE * behind_mm
    region: Mask = inside & (below_mm[:, None] <= reach_mm[None, :])[:, :, None]
    return region


def farther_inside(mask: Mask, radius_mm: float, grid_mm: float, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """Return which voxels of a mask are more than `radius_mm` from the nearest one outside, along `axes`.

    Beyond the array nothing is outside. Squared distances in whole voxels are cut off where they are enough, which
    takes a tenth of the time of the distances (Felzenszwalb and Huttenlocher 2012, Theory of Computing 8:415, by axis).
    """
    enough = int((radius_mm / grid_mm) ** 2) + 1
    squares = np.where(mask, np.int16(enough), np.int16(0))
    for axis in axes:
        along = np.moveaxis(squares, axis, 0)
        nearest = along.copy()
        for offset in range(1, min(int(radius_mm / grid_mm), len(along) - 1) + 1):
            further = along + np.int16(offset**2)
            np.minimum(nearest[offset:], further[:-offset], out=nearest[offset:])
            np.minimum(nearest[:-offset], further[offset:], out=nearest[:-offset])
        squares = np.moveaxis(nearest, 0, axis)
    farther: Mask = squares >= enough
    return farther


def distance_inside(mask: Mask, grid_mm: float) -> NDArray[np.float64]:
    """Return how far each voxel of a mask is from the nearest one outside, in mm; 0 outside, infinite without any."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask, sampling=grid_mm)
    return distance
