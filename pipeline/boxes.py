"""Find the bounding box of a mask."""

import torch
from torch import Tensor

Box = tuple[slice, slice, slice]
"""Ranges of slices, rows and columns."""


def box_around(mask: Tensor, margin: int) -> Box | None:
    """Return the bounding box of `mask` (slices, rows, columns) with `margin` voxels around it; None for an empty mask.

    The box is clipped to the grid.
    """
    lines = mask.any(dim=2)  # (slices, rows); reduced once, as it is the only pass over the whole grid
    slices, rows = _extent(lines.any(dim=1)), _extent(lines.any(dim=0))
    if slices is None or rows is None:
        return None
    columns = _extent(mask[slices, rows].any(dim=0).any(dim=0))
    assert columns is not None
    wide = [
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip((slices, rows, columns), mask.shape, strict=True)
    ]
    return wide[0], wide[1], wide[2]


def _extent(planes: Tensor) -> slice | None:
    """Return the range from the first to the last of `planes`, bool, that is set; None without one."""
    found = torch.nonzero(planes).flatten()
    return slice(int(found[0]), int(found[-1]) + 1) if found.numel() else None
