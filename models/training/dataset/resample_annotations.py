"""Move annotations onto the voxels of the annotated series, and from there onto the common grid."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.dataset.annotation import Part
from pipeline.resample import resample
from pipeline.volume import Geometry, Matrix

_TOLERANCE = 0.2
"""Tolerance in voxels between the grids of annotation and series: NIfTI rounds, and programs write few decimals."""


def on_series(parts: Iterable[Part], series: Geometry) -> NDArray[np.bool_] | None:
    """Return the parts as one mask on the voxels of a series; None if a voxel matches none of the series.

    Parts may have another order or direction of axes than the series, and may be cropped.
    """
    mask = np.zeros(series.shape, bool)
    for voxels, geometry in parts:
        mapping = _axis_mapping(geometry, series)
        if mapping is None:
            return None
        origin, steps = mapping
        index = origin + np.argwhere(voxels) @ steps
        if (index < 0).any() or (index >= np.array(series.shape)).any():
            return None
        mask[tuple(index.T)] = True
    return mask


def on_grid(mask: NDArray[np.bool_], series: Geometry, grid: Geometry, grid_to_series: Matrix) -> NDArray[np.bool_]:
    """Resample a mask of a series to the common grid: voxels at least half inside, as in `pipeline.restore`.

    `grid_to_series` maps world coordinates of T1CE to those of the series, as its alignment does.
    """
    share = resample(torch.from_numpy(mask.astype(np.float32))[None], series, grid, grid_to_series)[0]
    return (torch.nan_to_num(share, nan=0.0) >= 0.5).numpy()


def padded(voxels: NDArray[np.bool_], geometry: Geometry) -> Part:
    """Pad a part by one empty voxel on every side, so that resampling sees its edge."""
    outer = np.pad(voxels, 1)
    corner = geometry.affine[:3, :3] @ np.full(3, -1.0) + geometry.affine[:3, 3]
    affine = geometry.affine
    affine[:3, 3] = corner
    return outer, Geometry.from_affine(affine, outer.shape, geometry.frame_of_reference_uid)


def _axis_mapping(annotation: Geometry, series: Geometry) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the series' index of the first voxel and the index step along each axis; None if the grids differ."""
    index_map = np.linalg.inv(series.affine) @ annotation.affine
    origin = index_map[:3, 3]
    first = np.rint(origin).astype(np.int64)
    if np.abs(origin - first).max() > _TOLERANCE:
        return None
    steps = np.zeros((3, 3), np.int64)
    for axis, size in enumerate(annotation.shape):
        if size == 1:
            continue
        # The last voxel must match too: a slightly different spacing or angle shows there.
        end = origin + index_map[:3, axis] * (size - 1)
        steps[axis] = np.rint(index_map[:3, axis])
        if np.abs(steps[axis]).sum() != 1 or np.abs(end - first - steps[axis] * (size - 1)).max() > _TOLERANCE:
            return None
    if np.abs(steps).sum(axis=0).max() > 1:
        return None  # two axes run along the same axis of the series
    return first, steps
