"""Resampling is right where the value at every world point is known: a linear field in world coordinates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from pipeline.resample import interpolate, resample
from pipeline.volume import Geometry

DIRECTION = np.array([0.7, -1.3, 2.1])  # different along every axis: a flip, a swap or a shift changes the field


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float], angles_deg: list[float]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)  # centred on the world's origin
    return Geometry.from_affine(affine, shape, "1.2")


def world_points(geometry: Geometry) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"))
    return np.einsum("ij,jsrc->isrc", geometry.affine[:3, :3], index) + geometry.affine[:3, 3, None, None, None]


def field(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("i,i...->...", DIRECTION, points))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_a_linear_field_is_sampled_exactly_whatever_the_orientations(
    source_angles: list[float], target_angles: list[float], shift: list[float]
) -> None:
    source = oblique((21, 25, 29), (2.0, 1.7, 1.5), source_angles)
    target = oblique((5, 6, 7), (1.4, 1.5, 1.3), target_angles)
    x, y, z = shift
    matrix = ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, z), (0.0, 0.0, 0.0, 1.0))
    voxels = torch.from_numpy(field(world_points(source))).float()[None]

    found = resample(voxels, source, target, matrix)[0].numpy()

    expected = field(world_points(target) + np.array(shift)[:, None, None, None])
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_outside_of_the_source_is_missing_not_zero() -> None:
    source = oblique((8, 8, 8), (1, 1, 1), [0, 0, 0])
    target = oblique((8, 8, 40), (1, 1, 1), [0, 0, 0])
    found = resample(torch.ones(1, 8, 8, 8), source, target)[0]
    present = torch.isfinite(found)
    assert present[:, :, 16:24].all()
    assert not present[:, :, :15].any()
    assert not present[:, :, 25:].any()


def test_a_missing_voxel_is_ignored_and_does_not_spread() -> None:
    geometry = oblique((9, 9, 9), (1, 1, 1), [0, 0, 0])
    voxels = torch.full((1, 9, 9, 9), 700.0)
    voxels[0, 4, 4, 4] = torch.nan
    found = resample(voxels, geometry, geometry)[0]
    assert torch.isnan(found[4, 4, 4])
    assert torch.isfinite(found).sum() == 9**3 - 1
    assert found[torch.isfinite(found)].unique().tolist() == pytest.approx([700.0])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    st.lists(st.floats(-9, 9), min_size=3, max_size=3),
    st.sampled_from(["whole", "a part is missing", "only a part is there"]),
)
def test_wherever_the_source_lies_the_present_voxels_are_weighed(
    angles: list[float], shift: list[float], missing: str
) -> None:
    source, target = oblique((7, 9, 8), (1.5, 1, 1), angles), oblique((10, 12, 14), (1, 1, 1), [0, 0, 0])
    x, y, z = shift
    matrix = ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, z), (0.0, 0.0, 0.0, 1.0))
    voxels = np.random.default_rng(1).uniform(1, 2, source.shape).astype(np.float32)
    place = (slice(2, 4), slice(3, 6), slice(1, 6))
    if missing == "a part is missing":
        voxels[place] = np.nan
    elif missing == "only a part is there":
        alone = np.full_like(voxels, np.nan)
        alone[place] = voxels[place]
        voxels = alone

    found = interpolate(torch.from_numpy(voxels)[None], source, target, matrix)[0].numpy()

    points = world_points(target) + np.array(shift)[:, None, None, None]
    inverse = np.linalg.inv(source.affine)
    index = np.einsum("ij,jsrc->isrc", inverse[:3, :3], points) + inverse[:3, 3, None, None, None]
    options = {"order": 1, "mode": "grid-constant", "cval": 0.0}
    weights = map_coordinates(np.isfinite(voxels).astype(float), index, **options)
    values = map_coordinates(np.nan_to_num(voxels).astype(float), index, **options)
    clear = abs(weights - 0.5) > 1e-3
    expected = np.where(weights >= 0.5, values / weights.clip(0.5), np.nan)
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-4)


def test_a_coarser_target_sees_the_mean_of_a_fine_pattern_not_its_alias() -> None:
    source = oblique((40, 40, 40), (1, 1, 1), [0, 0, 0])
    checks = (torch.arange(40) % 2).float().expand(1, 40, 40, 40).contiguous()
    found = resample(checks, source, oblique((8, 8, 8), (4, 4, 4), [0, 0, 0]))[0]
    inner = found[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(inner.numpy(), 0.5, atol=0.02)


def test_many_slices_are_sampled_in_bounded_portions_with_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = oblique((9, 8, 7), (2, 2, 2), [10, 20, 30]), oblique((11, 10, 9), (1, 1, 1), [0, 0, 5])
    voxels = torch.randn(2, 9, 8, 7, generator=torch.Generator().manual_seed(1))
    whole = resample(voxels, source, target)
    monkeypatch.setattr("pipeline.resample._POINTS_AT_ONCE", 100)
    np.testing.assert_array_equal(resample(voxels, source, target).numpy(), whole.numpy())


def test_a_transform_and_its_inverse_bring_a_landmark_back() -> None:
    grid = oblique((31, 31, 31), (1, 1, 1), [0, 0, 0])
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [4, -3, 7], degrees=True).as_matrix()
    matrix[:3, 3] = (1.5, -2.0, 0.5)
    there = tuple(tuple(float(value) for value in row) for row in matrix)
    back = tuple(tuple(float(value) for value in row) for row in np.linalg.inv(matrix))
    points = world_points(grid)
    blob = torch.from_numpy(np.exp(-(((points - np.array([4.0, -5, 3])[:, None, None, None]) / 4) ** 2).sum(axis=0)))
    moved = resample(blob[None].float(), grid, grid, there)  # type: ignore[arg-type]
    returned = resample(moved, grid, grid, back)[0]  # type: ignore[arg-type]
    known = torch.isfinite(returned)
    assert known.float().mean() > 0.6
    np.testing.assert_allclose(
        returned[known].numpy(), blob[known].numpy(), atol=0.1
    )  # two trilinear steps blunt the peak
