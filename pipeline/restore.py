"""Resample probabilities from the model's grid to a series' own grid and threshold them there."""

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
    """Return masks (labels, slices, rows, columns) on `target`, with one slice for every slice of the series.

    `probabilities` is (labels, slices, rows, columns) on `grid`; `target_to_grid` maps world points of the target
    series to T1CE's world (the inverse of its alignment). Logits are interpolated (as nnU-Net does, Isensee et al.
    2021) and then compared with the logit of each label's threshold: outlines are finer than the model's grid, and a
    low threshold finds faint structures without widening sharp outlines, which it would do with interpolated
    probabilities. Outside of `grid` there is no label.
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
    """Return the part of `grid` outside of which no interpolated value reaches the threshold; None if there is none.

    An interpolated value is never above the largest voxel it is made of, so a point needs a voxel of `mask` within the
    range of interpolation (one voxel) and of smoothing (about one voxel of the target). The margin is twice that, so
    that all voxels that contribute are inside.
    """
    return box_around(mask, 2 * (1 + int(np.ceil(max(target.spacing_mm) / min(grid.spacing_mm)))))


def _reach(near: Geometry, target: Geometry, target_to_grid: Matrix) -> Box | None:
    """Return the part of `target` that `near` covers; None if there is none."""
    corners = np.array([[s, r, c, 1.0] for s in (0, 1) for r in (0, 1) for c in (0, 1)])
    corners[:, :3] *= np.array(near.shape) - 1
    index = (np.linalg.inv(target.affine) @ np.linalg.inv(np.array(target_to_grid)) @ near.affine @ corners.T)[:3]
    low = np.clip(np.floor(index.min(axis=1)).astype(int), 0, target.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, 0, target.shape)
    if (low >= high).any():
        return None
    slices, rows, columns = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return slices, rows, columns
