"""Take probabilities from the model's grid back to a series' own grid, and only then decide. Knows no network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.resample import resample
from pipeline.volume import IDENTITY, Geometry, Matrix


def restore(
    probabilities: Tensor,
    grid: Geometry,
    target: Geometry,
    thresholds: tuple[float, ...],
    target_to_grid: Matrix = IDENTITY,
) -> NDArray[np.bool_]:
    """Masks (labels, slices, rows, columns) on `target`, one slice for every slice of the source series.

    `probabilities` is (labels, slices, rows, columns) on `grid`; `target_to_grid` maps world points of the target
    series to T1CE's world (the inverse of its alignment). Probabilities are interpolated and then compared with
    each label's threshold, so that an edge lies between voxels and
    not on the model's coarser grid. Outside of `grid` is no label.
    """
    masks = np.empty((len(thresholds), *target.shape), bool)
    for label, threshold in enumerate(thresholds):
        values = resample(probabilities[label : label + 1], grid, target, target_to_grid)[0]
        masks[label] = (torch.nan_to_num(values, nan=0.0) >= threshold).cpu().numpy()
    return masks
