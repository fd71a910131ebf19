"""Find the voxels inside a closed surface, exactly, with rays along the slice axis and winding numbers."""

import numpy as np
from numpy.typing import NDArray

from models.training.synthetic.growth_model.surfaces import Points, Triangles

Mask = NDArray[np.bool_]
"""A mask (slices, rows, columns)."""
_EDGES = ((0, 1), (1, 2), (2, 0))


def voxels_inside(corners: Points, triangles: Triangles, shape: tuple[int, int, int]) -> Mask:
    """Return the voxels whose centre is inside the surface. `corners` are in index units (slice, row, column).

    The surface must be closed, with all triangles facing outwards or all inwards. Folds that cross each other leave no
    holes, because the winding number counts and not the parity. Parts outside of the grid are cut off.
    """
    entered = np.zeros((shape[0] + 1, shape[1], shape[2]), dtype=np.int8)
    triangle, row, column = _candidates(corners, triangles, shape)
    hit, facing_up = _hits(corners, triangles[triangle], row, column)
    triangle, row, column, facing_up = triangle[hit], row[hit], column[hit], facing_up[hit]
    height = _height(corners[triangles[triangle]], row, column)
    first_above = np.clip(np.ceil(height), 0, shape[0]).astype(np.intp)
    np.add.at(entered, (first_above, row, column), np.where(facing_up, 1, -1).astype(np.int8))
    winding = np.cumsum(entered[:-1], axis=0, dtype=np.int8)
    return np.asarray(winding > 0 if _volume(corners[triangles]) < 0 else winding < 0)


def _candidates(
    corners: Points, triangles: Triangles, shape: tuple[int, int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return pairs of triangle index and ray (row, column) for all rays in the bounding box of each triangle."""
    places = corners[triangles][..., 1:]
    low = np.maximum(np.ceil(places.min(axis=1)), 0).astype(np.intp)
    high = np.minimum(np.floor(places.max(axis=1)), np.array(shape[1:]) - 1).astype(np.intp)
    width = np.maximum(high - low + 1, 0)
    counts = width.prod(axis=1)
    triangle = np.repeat(np.arange(len(triangles)), counts)
    number = np.arange(len(triangle)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = low[triangle, 0] + number // width[triangle, 1]
    column = low[triangle, 1] + number % width[triangle, 1]
    return triangle, row, column


def _hits(
    corners: Points, triangles: Triangles, row: NDArray[np.intp], column: NDArray[np.intp]
) -> tuple[Mask, NDArray[np.bool_]]:
    """Return whether each ray hits its triangle, and whether the triangle faces up.

    Each edge is evaluated in the order of its corners' indices, so that both of its triangles decide alike: a ray
    through an edge hits exactly one of them.
    """
    sides = []
    for first, second in _EDGES:
        a, b = triangles[:, first], triangles[:, second]
        low, high = corners[np.minimum(a, b)], corners[np.maximum(a, b)]
        area = (high[:, 1] - low[:, 1]) * (column - low[:, 2]) - (high[:, 2] - low[:, 2]) * (row - low[:, 1])
        sides.append((area >= 0) ^ (a > b))
    hit = (sides[0] == sides[1]) & (sides[1] == sides[2])
    return hit, sides[0]


def _height(places: Points, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the slice index at which each ray hits the plane of its triangle (rays, 3 corners, 3)."""
    corner = places[:, 0]
    normal = np.cross(places[:, 1] - corner, places[:, 2] - corner)
    flat = np.where(normal[:, 0] == 0, 1.0, normal[:, 0])  # no ray hits a triangle seen edge-on
    sideways = normal[:, 1] * (row - corner[:, 1]) + normal[:, 2] * (column - corner[:, 2])
    return np.asarray(corner[:, 0] - sideways / flat)


def _volume(places: Points) -> float:
    """Return the signed volume inside triangles (triangles, 3 corners, 3), negative if they face inwards."""
    return float(np.einsum("ij,ij->", places[:, 0], np.cross(places[:, 1], places[:, 2]))) / 6
