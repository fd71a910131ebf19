"""The part of a grid that something fills. Knows no geometry and no meaning."""

import torch
from torch import Tensor

Box = tuple[slice, slice, slice]
"""Slices, rows, columns."""


def box_around(mask: Tensor, margin: int) -> Box | None:
    """The smallest box that holds `mask` (slices, rows, columns) and `margin` voxels around it; None where it is empty.

    It ends where the grid does.
    """
    extents = []
    for axis in range(3):
        planes = torch.nonzero(mask.any(dim=[other for other in range(3) if other != axis])).flatten()
        if planes.numel() == 0:
            return None
        extents.append(slice(max(0, int(planes[0]) - margin), min(mask.shape[axis], int(planes[-1]) + 1 + margin)))
    return extents[0], extents[1], extents[2]
