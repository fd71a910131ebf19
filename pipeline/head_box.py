"""Find the box around the head on the reference series, and make grids of it."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.normalise import head_mask
from pipeline.volume import Geometry

Box = tuple[NDArray[np.float64], NDArray[np.float64]]
"""World corners (low, high) of an axis-aligned box, mm."""


def head_box(reference: Tensor, geometry: Geometry) -> Box:
    """Return the world corners (low, high) of the axis-aligned box around the head, with a margin of 5 mm."""
    mask = head_mask(reference).cpu().numpy()
    corners = []
    for axis in range(3):
        lines = np.add.reduce(mask.view(np.uint8), axis=1 if axis == 2 else 2, dtype=np.uint32)
        counts = lines.sum(axis=1 if axis == 0 else 0)
        # A plane needs 1 % of its voxels in the mask to count, so that isolated noise does not widen the box.
        planes = np.flatnonzero(counts > 0.01 * mask[0].size if axis == 0 else counts > 0.01 * counts.max())
        corners.append((planes[0], planes[-1]) if len(planes) else (0, geometry.shape[axis] - 1))
    points = np.array([[s, r, c, 1.0] for s in corners[0] for r in corners[1] for c in corners[2]])
    world = (geometry.affine @ points.T)[:3]
    return world.min(axis=1) - 5, world.max(axis=1) + 5


def grid_around(
    low: NDArray[np.float64], high: NDArray[np.float64], spacing_mm: float, stride: int, frame_of_reference_uid: str
) -> Geometry:
    """Return an axial grid of isotropic voxels that covers a box, in world coordinates, with a multiple of `stride`."""
    x, y, z = (int(-(-length // (spacing_mm * stride)) * stride) for length in high - low)
    middle = (low + high) / 2
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    return Geometry.axial((z, y, x), (spacing_mm, spacing_mm, spacing_mm), centre, frame_of_reference_uid)
