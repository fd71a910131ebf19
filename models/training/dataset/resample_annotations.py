"""Put what was drawn onto the voxels that it was drawn on, and from there onto the common grid. Reads no files."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.dataset.annotation import Part
from pipeline.resample import resample
from pipeline.volume import Geometry, Matrix

_TOLERANCE = 0.2
"""Voxels by which a drawn voxel may miss the image's: NIfTI rounds, and programs write few decimals."""


def on_series(parts: Iterable[Part], series: Geometry) -> NDArray[np.bool_] | None:
    """The parts as one mask on the voxels of a series; None where a voxel does not fall onto one of the series'.

    Rows, columns and slices may run in another order or direction than the series', and parts may be cut out of it.
    """
    mask = np.zeros(series.shape, bool)
    for voxels, geometry in parts:
        moves = _moves(geometry, series)
        if moves is None:
            return None
        origin, steps = moves
        index = origin + np.argwhere(voxels) @ steps
        if (index < 0).any() or (index >= np.array(series.shape)).any():
            return None
        mask[tuple(index.T)] = True
    return mask


def on_grid(mask: NDArray[np.bool_], series: Geometry, grid: Geometry, grid_to_series: Matrix) -> NDArray[np.bool_]:
    """A mask of a series on the common grid: where at least half is inside, as `pipeline.restore` decides going back.

    `grid_to_series` maps T1CE's world to the world of the series, as its alignment does.
    """
    share = resample(torch.from_numpy(mask.astype(np.float32))[None], series, grid, grid_to_series)[0]
    return (torch.nan_to_num(share, nan=0.0) >= 0.5).numpy()


def padded(voxels: NDArray[np.bool_], geometry: Geometry) -> Part:
    """A part with an empty voxel around it, so that resampling sees where it ends."""
    outer = np.pad(voxels, 1)
    corner = geometry.affine[:3, :3] @ np.full(3, -1.0) + geometry.affine[:3, 3]
    affine = geometry.affine
    affine[:3, 3] = corner
    slices, rows, columns = outer.shape
    return outer, Geometry.from_affine(affine, (slices, rows, columns), geometry.frame_of_reference_uid)


def _moves(drawn: Geometry, series: Geometry) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The series' index of the first drawn voxel, and what a step along each drawn axis adds to it (axis by axis)."""
    index_map = np.linalg.inv(series.affine) @ drawn.affine
    origin = index_map[:3, 3]
    first = np.rint(origin).astype(np.int64)
    if np.abs(origin - first).max() > _TOLERANCE:
        return None
    steps = np.zeros((3, 3), np.int64)
    for axis, size in enumerate(drawn.shape):
        if size == 1:
            continue
        # The far end has to fall onto a voxel too: a slightly other spacing or angle shows there.
        end = origin + index_map[:3, axis] * (size - 1)
        steps[axis] = np.rint(index_map[:3, axis])
        if np.abs(steps[axis]).sum() != 1 or np.abs(end - first - steps[axis] * (size - 1)).max() > _TOLERANCE:
            return None
    if np.abs(steps).sum(axis=0).max() > 1:
        return None  # two axes along one
    return first, steps
