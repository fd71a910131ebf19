"""Take probabilities from the model's grid back to a series' own grid, and only then decide. Knows no network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.boxes import Box, box_around
from pipeline.logit import logit
from pipeline.resample import interpolate, smoothed_for
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
    series to T1CE's world (the inverse of its alignment). Logits are interpolated (as nnU-Net does, Isensee et al.
    2021) and then compared with that of each label's threshold: an edge lies between voxels and not on the model's
    coarser grid, and a low threshold finds faint structures without widening the outlines of sharp ones, as it does
    where probabilities are interpolated. Outside of `grid` is no label.
    """
    masks = np.zeros((len(thresholds), *target.shape), bool)
    for label, threshold in enumerate(thresholds):
        near = _near(probabilities[label] >= threshold, grid, target)
        box = near and _reach(grid.cropped(near), target, target_to_grid)
        if near and box:
            source, part = grid.cropped(near), target.cropped(box)
            logits = logit(smoothed_for(part, probabilities[label : label + 1, *near], source))
            values = interpolate(logits, source, part, target_to_grid)[0]
            masks[label][box] = (values >= logit(torch.tensor(threshold, device=values.device))).cpu().numpy()
    return masks


def _near(mask: Tensor, grid: Geometry, target: Geometry) -> Box | None:
    """The part of `grid` outside of which no mean of voxels around can reach the threshold; None for nothing.

    A mean is never above its largest voxel, so a point needs a voxel of `mask` within the reach of interpolation
    (one voxel) and of smoothing (about one voxel of the target). Twice that, so that all means there are whole.
    """
    return box_around(mask, 2 * (1 + int(np.ceil(max(target.spacing_mm) / min(grid.spacing_mm)))))


def _reach(near: Geometry, target: Geometry, target_to_grid: Matrix) -> Box | None:
    """The part of `target` that `near` covers; None for nothing."""
    corners = np.array([[s, r, c, 1.0] for s in (0, 1) for r in (0, 1) for c in (0, 1)])
    corners[:, :3] *= np.array(near.shape) - 1
    index = (np.linalg.inv(target.affine) @ np.linalg.inv(np.array(target_to_grid)) @ near.affine @ corners.T)[:3]
    low = np.clip(np.floor(index.min(axis=1)).astype(int), 0, target.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, 0, target.shape)
    if (low >= high).any():
        return None
    slices, rows, columns = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return slices, rows, columns
