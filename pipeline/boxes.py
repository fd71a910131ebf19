"""Find the bounding box of a mask."""

import torch
from torch import Tensor

Box = tuple[slice, slice, slice]
"""Ranges of slices, rows and columns."""


def box_around(mask: Tensor, margin: int) -> Box | None:
    """Return the bounding box of `mask` (slices, rows, columns) with `margin` voxels around it; None for an empty mask.

    The box is clipped to the grid.
    """
    extents = []
    for axis in range(3):
        planes = torch.nonzero(mask.any(dim=[other for other in range(3) if other != axis])).flatten()
        if planes.numel() == 0:
            return None
        extents.append(slice(max(0, int(planes[0]) - margin), min(mask.shape[axis], int(planes[-1]) + 1 + margin)))
    return extents[0], extents[1], extents[2]
