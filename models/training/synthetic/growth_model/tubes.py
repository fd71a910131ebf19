"""Tubes along curves: distance fields on the coarse grid, and rows of balls on the fine grid for thin tubes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from models.training.synthetic.fields import Coordinates, Field
from models.training.synthetic.growth_model.surfaces import Points, from_ras
from models.training.synthetic.growth_model.voxelise import Mask

TubePath = Sequence[tuple[float, float, float, float]]
"""Points of an axis (x, y, z in RAS millimetres of fsaverage), each with the radius in millimetres."""

FAR_MM = 1e3
"""Value of a distance field far from its tube."""
_SEARCH_STEP = 4
_CURVE_STEP_MM = 0.4


def tube(at: Coordinates, path: TubePath, scale: float = 1.0, margin_mm: float = 14.0) -> Field:
    """Return the distance in millimetres to a tube of straight pieces, negative inside; FAR_MM beyond `margin_mm`.

    `at` is in template coordinates. `scale` multiplies the radii.
    """
    distance = np.full(at.x.shape, FAR_MM, dtype=np.float32)
    for first, second in pairwise(path):
        start, end = np.array(from_ras(*first[:3])), np.array(from_ras(*second[:3]))
        radii = scale * first[3], scale * second[3]
        reach = max(radii) + margin_mm
        box = _box(at, np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if box is None:
            continue
        offset = [value[box] - np.float32(origin) for value, origin in zip((at.x, at.y, at.z), start, strict=True)]
        along = end - start
        share = sum(value * np.float32(step) for value, step in zip(offset, along, strict=True)) / float(along @ along)
        share = np.clip(share, 0, 1)
        away = np.sqrt(sum((value - share * np.float32(step)) ** 2 for value, step in zip(offset, along, strict=True)))
        distance[box] = np.minimum(distance[box], away - (radii[0] + share * (radii[1] - radii[0])))
    return distance


def _box(at: Coordinates, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice, slice] | None:
    """Return the part of the grid with coordinates from `low` to `high`, slightly enlarged; None if it is empty."""
    step = (slice(None, None, _SEARCH_STEP),) * 3
    near = np.ones(at.x[step].shape, dtype=bool)
    for value, least, most in zip((at.x, at.y, at.z), low, high, strict=True):
        near &= (value[step] >= least) & (value[step] <= most)
    found = np.argwhere(near)
    if not len(found):
        return None
    first = np.maximum((found.min(axis=0) - 1) * _SEARCH_STEP, 0)
    last = (found.max(axis=0) + 2) * _SEARCH_STEP
    return (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))


def curve(path: TubePath) -> tuple[Points, NDArray[np.float64]]:
    """Return template coordinates (points, 3) and radii (points,) along a smooth curve through the points of a path."""
    corners = np.array([(*from_ras(*place[:3]), place[3]) for place in path])
    lengths = np.linalg.norm(np.diff(corners[:, :3], axis=0), axis=1)
    position = np.concatenate(([0.0], np.cumsum(lengths)))
    points = CubicSpline(position, corners)(np.arange(0, position[-1], _CURVE_STEP_MM))
    return points[:, :3], np.clip(points[:, 3], corners[:, 3].min(), corners[:, 3].max())


def beads(centres: Points, radii: NDArray[np.float64], shape: tuple[int, int, int]) -> Mask:
    """Return the voxels whose centre is inside one of the balls; all in index units (slice, row, column).

    A ball that contains no voxel centre fills the nearest voxel.
    """
    mask = np.zeros(shape, dtype=bool)
    if not len(centres):
        return mask
    nearest = np.round(centres).astype(np.intp)
    reach = int(np.ceil(radii.max()))
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    for offset in offsets:
        places = nearest + offset
        hit = ((places - centres) ** 2).sum(axis=1) <= radii**2
        if not offset.any():
            hit[:] = True
        places = places[hit & ((places >= 0) & (places < shape)).all(axis=1)]
        mask[tuple(places.T)] = True
    return mask
