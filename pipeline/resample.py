"""Sample the voxels of one geometry at the points of another, on the chosen device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.volume import IDENTITY, Geometry, Matrix

_POINTS_AT_ONCE = 1_000_000
"""Bound on the sampling points in memory (12 bytes each)."""


def resample(voxels: Tensor, source: Geometry, target: Geometry, target_to_source: Matrix = IDENTITY) -> Tensor:
    """Sample `voxels` trilinearly at the voxel centres of `target`.

    `voxels` is (channels, slices, rows, columns) float on `source`; the result (channels, slices, rows, columns) on
    `target`, float32, same device. `target_to_source` maps world points of `target` to world points of `source`.
    NaN are missing values: they are ignored, and a point becomes NaN if less than half of its weight is present, as it
    is outside of `source`. If `target` is coarser than `source`, the voxels are smoothed first, see `smoothed_for`.
    """
    return interpolate(smoothed_for(target, voxels, source), source, target, target_to_source)


def interpolate(voxels: Tensor, source: Geometry, target: Geometry, target_to_source: Matrix = IDENTITY) -> Tensor:
    """Sample as `resample` does, but without smoothing, even if `target` is coarser."""
    voxels = voxels.float()
    present = torch.isfinite(voxels)
    complete = bool(present.all())
    stack = torch.cat([torch.nan_to_num(voxels, nan=0.0), _weights(present, complete)])
    sampled = _sample(stack, _index_map(source, target, target_to_source), target.shape)
    values, weights = sampled[: voxels.shape[0]], sampled[voxels.shape[0] :]
    return torch.where(weights >= 0.5, values / weights.clamp(min=0.5), torch.nan)


def sample_at(stack: Tensor, source: Geometry, target: Geometry, target_to_source: NDArray[np.float64]) -> Tensor:
    """Sample (channels, slices, rows, columns) trilinearly on `target`, without smoothing; 0 outside of `source`."""
    return _sample(stack, np.linalg.inv(source.affine) @ target_to_source @ target.affine, target.shape)


def _weights(present: Tensor, complete: bool) -> Tensor:
    return torch.ones_like(present[:1], dtype=torch.float32) if complete else present.float()


def _index_map(source: Geometry, target: Geometry, target_to_source: Matrix) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix from an index of `target` to a (fractional) index of `source`."""
    index_map: NDArray[np.float64] = np.linalg.inv(source.affine) @ np.array(target_to_source) @ target.affine
    return index_map


def _sample(stack: Tensor, index_map: NDArray[np.float64], shape: tuple[int, int, int]) -> Tensor:
    # grid_sample wants (column, row, slice) in -1..1 between the first and the last voxel centre (align_corners=True).
    size = np.array(stack.shape[1:], float)
    scale = 2 / np.maximum(size - 1, 1)
    normalised = scale[:, None] * index_map[:3]
    normalised[:, 3] -= 1
    steps = torch.tensor(normalised[::-1].copy(), dtype=torch.float64, device=stack.device)
    rows = torch.arange(shape[1], device=stack.device, dtype=torch.float64)[:, None, None]
    columns = torch.arange(shape[2], device=stack.device, dtype=torch.float64)[None, :, None]
    plane = (steps[:, 3] + rows * steps[:, 1] + columns * steps[:, 2]).float()  # (rows, columns, 3)
    out = torch.empty((stack.shape[0], *shape), device=stack.device)
    at_once = max(1, _POINTS_AT_ONCE // (shape[1] * shape[2]))
    for first in range(0, shape[0], at_once):
        slices = torch.arange(first, min(first + at_once, shape[0]), device=stack.device, dtype=torch.float64)
        points = plane + (slices[:, None] * steps[:, 0]).float()[:, None, None, :]  # (slices, rows, columns, 3)
        # Each row is a sample of its own of one batch, because torch shares out only these to the cores of a CPU.
        lines = points.flatten(0, 1)[:, None, None]
        sampled = functional.grid_sample(
            stack.expand(len(lines), *stack.shape), lines, mode="bilinear", padding_mode="zeros", align_corners=True
        )  # (slices x rows, channels, 1, 1, columns)
        by_row = sampled[:, :, 0, 0].reshape(len(slices), shape[1], len(stack), shape[2])
        out[:, first : first + len(slices)] = by_row.permute(2, 0, 1, 3)
    return out


def smoothed_for(target: Geometry, voxels: Tensor, source: Geometry) -> Tensor:
    """Smooth `voxels` to the resolution of `target`, so that sampling does not alias. Returns float32; NaN stay NaN.

    Along each axis of `source` with voxels of edge a, finer than the edge b of `target`, a Gaussian with a full width
    at half maximum of sqrt(b^2 - a^2) is applied.
    """
    voxels = voxels.float()
    edge = target.voxel_volume_mm3 ** (1 / 3)
    missing = torch.isnan(voxels)
    for axis, spacing in enumerate(source.spacing_mm):
        if edge <= 1.1 * spacing or voxels.shape[axis + 1] < 3:
            continue
        sigma = float(np.sqrt(edge**2 - spacing**2)) / 2.3548 / spacing
        voxels = _gaussian(voxels, axis + 1, sigma)
    return voxels.masked_fill(missing, torch.nan)


def _gaussian(voxels: Tensor, axis: int, sigma: float) -> Tensor:
    """Apply a Gaussian along one axis, ignoring missing values and the outside."""
    reach = max(1, round(2.5 * sigma))
    offsets = range(-reach, reach + 1)
    kernel = [float(np.exp(-0.5 * (offset / sigma) ** 2)) for offset in offsets]
    present = torch.isfinite(voxels)
    if bool(present.all()):
        # Only the ends of the axis lack neighbours, so all lines have the same weights.
        lines = [size if number == axis else 1 for number, size in enumerate(voxels.shape)]
        filled, present = voxels, torch.ones(lines, device=voxels.device)
    else:
        filled = torch.nan_to_num(voxels, nan=0.0)
    total, weight = torch.zeros_like(filled), torch.zeros_like(present, dtype=filled.dtype)
    size = voxels.shape[axis]
    for offset, factor in zip(offsets, kernel, strict=True):
        length = size - abs(offset)
        if length <= 0:
            continue
        here, there = max(0, -offset), max(0, offset)
        total.narrow(axis, here, length).add_(filled.narrow(axis, there, length), alpha=factor)
        weight.narrow(axis, here, length).add_(present.narrow(axis, there, length), alpha=factor)
    return total.div_(weight.clamp_(min=1e-6))
