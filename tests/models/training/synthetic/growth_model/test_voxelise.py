"""The voxels inside a surface are those whose centres are inside, for any order of triangles, folds and position."""

import itertools

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from models.training.synthetic.growth_model.voxelise import voxels_inside

SHAPE = (30, 34, 32)


def ball(centre: tuple[float, float, float], radius: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return corners on a sphere, outward triangles of their hull, and its half spaces (normal, offset)."""
    points = np.random.default_rng(seed).normal(size=(120, 3))
    corners = np.array(centre) + radius * points / np.linalg.norm(points, axis=1, keepdims=True)
    hull = ConvexHull(corners)
    triangles = hull.simplices.copy()
    faces = corners[triangles]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    turned = np.einsum("ij,ij->i", normals, hull.equations[:, :3]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    return corners, triangles, hull.equations


def centres() -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), axis=-1).astype(float)


def expected(equations: np.ndarray) -> np.ndarray:
    return np.asarray(((centres() @ equations[:, :3].T + equations[:, 3]) <= 0).all(axis=-1))


@pytest.mark.parametrize("seed", range(3))
def test_voxels_are_exactly_those_within(seed: int) -> None:
    corners, triangles, equations = ball((14.2, 17.7, 15.1), 11.3, seed)
    assert np.array_equal(voxels_inside(corners, triangles, SHAPE), expected(equations))
    assert np.array_equal(voxels_inside(corners, triangles[:, ::-1], SHAPE), expected(equations))


def test_parts_outside_of_the_grid_are_cut_off() -> None:
    corners, triangles, equations = ball((1.3, 30.2, 16.4), 9.7)
    filled = voxels_inside(corners, triangles, SHAPE)
    assert np.array_equal(filled, expected(equations))
    assert filled[0].any()


def test_rays_through_edges_and_corners_are_counted_once() -> None:
    # A box whose corners are voxel centres: rays run along its edges and through the diagonals of its faces.
    corners = np.array(list(itertools.product((5.5, 9.5), (4.0, 12.0), (3.0, 11.0))))
    hull = ConvexHull(corners)
    triangles = hull.simplices.copy()
    faces = corners[triangles]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0])
    turned = np.einsum("ij,ij->i", normals, hull.equations[:, :3]) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    filled = voxels_inside(corners, triangles, SHAPE)
    assert filled[6:10, 5:12, 4:11].all()
    assert not filled[:6].any()
    assert not filled[10:].any()
    outline = np.zeros(SHAPE, bool)
    outline[6:10, 4:13, 3:12] = True
    assert not (filled & ~outline).any()
    # All slices of the box are equal.
    assert np.array_equal(filled[6], filled[9])


def test_folds_that_cross_leave_no_hole() -> None:
    first, second = ball((12.2, 15.3, 16.1), 8.4), ball((17.1, 17.2, 15.3), 7.7, seed=1)
    corners = np.concatenate((first[0], second[0]))
    triangles = np.concatenate((first[1], second[1] + len(first[0])))
    assert np.array_equal(voxels_inside(corners, triangles, SHAPE), expected(first[2]) | expected(second[2]))
