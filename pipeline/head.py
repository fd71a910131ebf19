"""Find the head in any series, on a grid of a few millimetres."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.labels import Role
from pipeline.normalise import head_mask

_LEAST_ADC = 100.0
"""10^-6 mm2/s; no tissue diffuses less, and failed fits are 0."""


def filled_head(voxels: Tensor, role: Role) -> Tensor:
    """Return the mask of the head, bool, from (slices, rows, columns) of about 2 to 8 mm; NaN are air.

    Closed and filled, as fluid is dark on FLAIR and bone on all series; specks of noise are left out. An ADC map that
    was computed inside the brain alone gives the brain, and one with noise in the air gives all of its field of view.
    The mask is empty where there is nothing but air.
    """
    tissue = torch.isfinite(voxels) & (voxels > _LEAST_ADC) if role is Role.ADC else head_mask(voxels)
    mask = np.pad(tissue.cpu().numpy(), 2)
    closed = ndimage.binary_closing(mask, iterations=2)
    closed = closed | _filled_in_planes(closed)
    opened = ndimage.binary_opening(closed[2:-2, 2:-2, 2:-2])
    parts, count = ndimage.label(opened)
    if count == 0:
        return torch.zeros_like(tissue)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return torch.from_numpy(largest).to(voxels.device)


def _filled_in_planes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes plane by plane: the head is open at the neck, so that in space its inside may not be enclosed."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
