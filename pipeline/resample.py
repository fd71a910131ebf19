"""Sample the voxels of one geometry at the points of another, on the chosen device."""

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.boxes import Box, box_around
from pipeline.finite import all_finite
from pipeline.volume import IDENTITY, Geometry, Matrix

_POINTS_AT_ONCE = 500_000
"""Bound on the sampling points in memory (12 bytes each)."""
_ROUNDED = 1e-2
"""Voxels; places are rounded to less."""


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
    complete, size = all_finite(voxels), voxels.shape[1:]
    # Where all is present, the outermost voxels go on outside, as they are all of what is present there.
    padding = "border" if complete else "zeros"
    stack = voxels if complete else torch.cat([torch.nan_to_num(voxels, nan=0.0), torch.isfinite(voxels).float()])
    whole = slice(0, size[0]), slice(0, size[1]), slice(0, size[2])
    present = whole if complete else box_around(torch.isfinite(voxels).any(0), 0)
    index_map = np.linalg.inv(source.affine) @ np.array(target_to_source) @ target.affine
    out = torch.full((voxels.shape[0], *target.shape), torch.nan, device=voxels.device)
    slices, rows, columns = _reached(present, size, index_map, target.shape)
    at_once = max(1, _POINTS_AT_ONCE // max(1, (rows.stop - rows.start) * (columns.stop - columns.start)))
    for first in range(slices.start, slices.stop, at_once):
        part = (slice(first, min(first + at_once, slices.stop)), rows, columns)
        points = _points(index_map, part, size, voxels.device)
        sampled = _sample(stack, points, padding)
        values, weights = sampled[: voxels.shape[0]], sampled[voxels.shape[0] :]
        if complete:
            weights = _weights_inside(points, size)
        else:
            values = values / weights.clamp(min=0.5)
        out[:, *part] = torch.where(weights >= 0.5, values, torch.nan)
    return out


def sample_at(stack: Tensor, source: Geometry, target: Geometry, target_to_source: NDArray[np.float64]) -> Tensor:
    """Sample (channels, slices, rows, columns) trilinearly on `target` under several motions, without smoothing.

    `target_to_source` is (motions, 4, 4); returns (motions, channels, slices, rows, columns), 0 outside of `source`.
    """
    whole = slice(0, target.shape[0]), slice(0, target.shape[1]), slice(0, target.shape[2])
    index_maps = np.linalg.inv(source.affine) @ target_to_source @ target.affine
    points = torch.stack([_points(each, whole, stack.shape[1:], stack.device) for each in index_maps])
    return _grid_sample(stack, points, "zeros")


def _reached(present: Box | None, size: torch.Size, index_map: NDArray[np.float64], shape: tuple[int, int, int]) -> Box:
    """Return the part of the target, of `shape`, where voxels of the source's part `present` can have half of a say.

    It is empty without such a part.
    """
    nothing = slice(0, 0), slice(0, 0), slice(0, 0)
    if present is None:
        return nothing
    if min(size) == 1:  # a single slice goes on for ever
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    ends = ((part.start - 0.5, part.stop - 0.5) for part in present)
    corners = (np.linalg.inv(index_map) @ np.array([[*corner, 1.0] for corner in product(*ends)]).T)[:3]
    low = np.clip(np.floor(corners.min(axis=1) - _ROUNDED), 0, shape).astype(int).tolist()
    high = np.clip(np.ceil(corners.max(axis=1) + _ROUNDED) + 1, 0, shape).astype(int).tolist()
    slices, rows, columns = (slice(first, last) for first, last in zip(low, high, strict=True))
    return (slices, rows, columns) if all(map(int.__lt__, low, high)) else nothing


def _weights_inside(points: Tensor, size: torch.Size) -> Tensor:
    """Return the weight of the voxels that exist in the interpolation at points (..., 3), as `_points` makes them."""
    weights = torch.ones((), device=points.device)
    for axis, length in enumerate(reversed(size)):
        half = (length - 1) / 2
        weights = points[..., axis].abs().mul_(-half).add_(half + 1).clamp_(0, 1).mul_(weights)
    return weights


def _points(index_map: NDArray[np.float64], part: Box, size: torch.Size, device: torch.device) -> Tensor:
    """Return the places, (slices, rows, columns, 3), of a part of the target, as grid_sample wants them.

    That is (column, row, slice) in -1..1 between the first and the last voxel centre of the source.
    """
    lengths = np.array(size, float)
    scale = 2 / np.maximum(lengths - 1, 1)
    normalised = scale[:, None] * index_map[:3]
    normalised[:, 3] -= 1
    steps = torch.tensor(normalised[::-1].copy(), dtype=torch.float64, device=device)
    slices, rows, columns = (
        torch.arange(each.start, each.stop, device=device, dtype=torch.float64)[:, None] * steps[:, axis]
        for axis, each in enumerate(part)
    )
    plane = (steps[:, 3] + rows[:, None] + columns).float()  # (rows, columns, 3)
    return plane + slices.float()[:, None, None, :]


def _sample(stack: Tensor, points: Tensor, padding: str) -> Tensor:
    """Sample (channels, slices, rows, columns) at points (slices, rows, columns, 3): (channels, slices, rows, columns).

    Each row is a sample of its own of one batch, because torch shares out only these to the cores of a CPU.
    """
    lines = points.flatten(0, 1)[:, None, None]
    sampled = _grid_sample(stack, lines, padding)  # (slices x rows, channels, 1, 1, columns)
    return sampled.reshape(*points.shape[:2], len(stack), points.shape[2]).permute(2, 0, 1, 3)


def _grid_sample(stack: Tensor, points: Tensor, padding: str) -> Tensor:
    """Sample one stack (channels, ...) at a batch of points (batch, a, b, c, 3): (batch, channels, a, b, c)."""
    batch = stack.expand(len(points), *stack.shape)
    return functional.grid_sample(batch, points, mode="bilinear", padding_mode=padding, align_corners=True)


def smoothed_for(target: Geometry, voxels: Tensor, source: Geometry) -> Tensor:
    """Smooth `voxels` to the resolution of `target`, so that sampling does not alias. Returns float32; NaN stay NaN.

    Along each axis of `source` with voxels of edge a, finer than the edge b of `target`, a Gaussian with a full width
    at half maximum of sqrt(b^2 - a^2) is applied.
    """
    voxels = voxels.float()
    edge = target.voxel_volume_mm3 ** (1 / 3)
    missing = None if all_finite(voxels) else torch.isnan(voxels)
    for axis, spacing in enumerate(source.spacing_mm):
        if edge <= 1.1 * spacing or voxels.shape[axis + 1] < 3:
            continue
        sigma = float(np.sqrt(edge**2 - spacing**2)) / 2.3548 / spacing
        voxels = _gaussian(voxels, axis + 1, sigma)
    return voxels if missing is None else voxels.masked_fill(missing, torch.nan)


def _gaussian(voxels: Tensor, axis: int, sigma: float) -> Tensor:
    """Apply a Gaussian along one axis, ignoring missing values and the outside."""
    reach = max(1, round(2.5 * sigma))
    offsets = range(-reach, reach + 1)
    kernel = [float(np.exp(-0.5 * (offset / sigma) ** 2)) for offset in offsets]
    if all_finite(voxels):
        # Only the ends of the axis lack neighbours, so all lines have the same weights.
        lines = [size if number == axis else 1 for number, size in enumerate(voxels.shape)]
        filled, present = voxels, torch.ones(lines, dtype=torch.bool, device=voxels.device)
    else:
        filled, present = torch.nan_to_num(voxels, nan=0.0), torch.isfinite(voxels)
    total, weight = filled * kernel[reach], present * kernel[reach]
    size = voxels.shape[axis]
    for offset, factor in zip(offsets, kernel, strict=True):
        length = size - abs(offset)
        if offset == 0 or length <= 0:
            continue
        here, there = max(0, -offset), max(0, offset)
        total.narrow(axis, here, length).add_(filled.narrow(axis, there, length), alpha=factor)
        weight.narrow(axis, here, length).add_(present.narrow(axis, there, length), alpha=factor)
    return total.div_(weight.clamp_(min=1e-6))
