"""Panels have the right slices, and the other series are at their true positions: a field of world coordinates."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from models.labels import Role
from pipeline.alignment import RoleAlignment, as_matrix
from pipeline.panels import panels
from pipeline.resample import resample
from pipeline.volume import IDENTITY, Geometry, Matrix, Volume

SLOPE = np.array([0.7, -1.3, 2.1])  # different along every axis: a flip, a swap or a shift changes the field
T1CE = Geometry.axial((30, 12, 10), (1.5, 1.2, 1.1), (3, -4, 5), "1.2")
LABELS = 3


def world_points(geometry: Geometry) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"), axis=-1)
    return np.asarray(index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3])


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float], angles_deg: list[float]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = np.array(T1CE.centre_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry.from_affine(affine, shape, "1.2")


def field(geometry: Geometry) -> Volume:
    return Volume((world_points(geometry) @ SLOPE).astype(np.float32), geometry)


def motion(role: Role, angles_deg: list[float], shift_mm: list[float]) -> RoleAlignment:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return RoleAlignment(role, True, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), as_matrix(matrix), "test")


def still(role: Role) -> RoleAlignment:
    return RoleAlignment(role, False, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), IDENTITY, "test")


def masks_on(*slices: set[int]) -> NDArray[np.bool_]:
    masks = np.zeros((LABELS, *T1CE.shape), bool)
    for mask, filled in zip(masks, slices, strict=True):
        mask[sorted(filled), 3:6, 2:7] = True
    return masks


def test_a_series_is_moved_by_its_alignment() -> None:
    flair = field(oblique((40, 41, 42), (1.4, 1.3, 1.2), [20, -30, 70]))
    alignment = motion(Role.FLAIR, [4, -6, 9], [5.0, -3.0, 2.0])
    found = panels({Role.T1CE: field(T1CE), Role.FLAIR: flair}, masks_on({4, 9, 17}, set(), set()), (alignment,))
    assert found.slice_indices == (4, 9, 17)
    assert found.roles == (Role.T1CE, Role.FLAIR)
    points = world_points(T1CE)[[4, 9, 17]]
    np.testing.assert_allclose(found.pixels[0], points @ SLOPE, atol=1e-4)
    # What T1CE shows at p, the moved patient shows to FLAIR at the alignment's matrix times p.
    matrix = np.array(alignment.matrix)
    np.testing.assert_allclose(found.pixels[1], (points @ matrix[:3, :3].T + matrix[:3, 3]) @ SLOPE, atol=2e-3)
    # The other direction would be several millimetres off, so the line above can tell.
    inverse = np.array(alignment.inverse)
    wrong = (points @ inverse[:3, :3].T + inverse[:3, 3]) @ SLOPE
    assert np.abs(found.pixels[1] - wrong).min() > 3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (6.0, 0.4, 0.4), (0.3, 0.5, 2.0)])
@pytest.mark.parametrize("angles", [[0, 0, 0], [90, 0, 0], [7, -5, 12], [40, 50, 60]])
def test_a_slice_alone_has_the_values_of_sampling_the_whole(
    spacing: tuple[float, float, float], angles: list[float]
) -> None:
    extent_mm = (24, 26, 22)  # short of T1CE's 45 mm: the first and last slices lie outside
    shape = (int(extent_mm[0] / spacing[0]), int(extent_mm[1] / spacing[1]), int(extent_mm[2] / spacing[2]))
    geometry = oblique(shape, spacing, [float(angle) for angle in angles])
    pixels = np.random.default_rng(3).normal(1000, 300, geometry.shape).astype(np.float32)
    pixels[np.random.default_rng(4).random(geometry.shape) < 0.02] = np.nan  # failed fits
    alignment = motion(Role.ADC, [3, 2, -4], [1.0, 2.0, -3.0])
    everywhere = masks_on(set(range(30)), {3}, {5})
    found = panels(
        {Role.T1CE: field(T1CE), Role.ADC: Volume(pixels, geometry)}, everywhere, (alignment,), most=T1CE.shape[0]
    )
    matrix: Matrix = alignment.matrix
    whole = resample(torch.from_numpy(pixels)[None], geometry, T1CE, matrix)[0].numpy()
    assert np.isfinite(whole).any()
    assert np.isnan(whole[0]).all()
    np.testing.assert_array_equal(np.isnan(found.pixels[1]), np.isnan(whole))
    np.testing.assert_allclose(found.pixels[1], whole, rtol=1e-3)


def test_all_labelled_slices_are_shown_where_there_is_room() -> None:
    found = panels({Role.T1CE: field(T1CE)}, masks_on({3, 4}, {4, 11}, {28}), (), most=5)
    assert found.slice_indices == (3, 4, 11, 28)
    assert found.pixels.shape == (1, 4, *T1CE.shape[1:])


def test_many_labelled_slices_are_thinned_evenly_and_the_largest_areas_stay() -> None:
    masks = masks_on(set(range(2, 27)), set(range(10, 14)), {12})
    masks[0, 19, 8, 8] = masks[1, 13, 8, 8] = True  # one voxel more than on any other slice
    indices = panels({Role.T1CE: field(T1CE)}, masks, (), most=9).slice_indices
    assert len(indices) == 9
    assert list(indices) == sorted(set(indices))
    assert {19, 13, 12} <= set(indices)
    assert {2, 26} <= set(indices)  # the ends of the lesion
    gaps = np.diff(indices)
    assert gaps.max() <= 2 * np.ceil(25 / 9)


def test_an_empty_result_shows_a_few_slices_of_the_middle() -> None:
    indices = panels({Role.T1CE: field(T1CE)}, masks_on(set(), set(), set()), ()).slice_indices
    assert 3 <= len(indices) <= 6
    middle = (T1CE.shape[0] - 1) / 2
    assert np.mean(indices) == pytest.approx(middle, abs=1)
    assert all(abs(index - middle) <= T1CE.shape[0] / 4 for index in indices)


def test_a_volume_of_two_slices_shows_each_at_most_once() -> None:
    geometry = Geometry.axial((2, 5, 5), (5, 1, 1), (0, 0, 0), "1.2")
    indices = panels({Role.T1CE: field(geometry)}, np.zeros((LABELS, 2, 5, 5), bool), ()).slice_indices
    assert len(set(indices)) == len(indices) > 0
    assert set(indices) <= {0, 1}


def test_panels_have_the_available_roles_in_the_order_of_the_picture() -> None:
    flair, adc = field(oblique((30, 30, 30), (2, 2, 2), [0, 0, 0])), field(oblique((30, 30, 30), (2, 2, 2), [0, 0, 5]))
    volumes = {Role.ADC: adc, Role.T2: flair, Role.FLAIR: flair, Role.T1CE: field(T1CE)}
    masks = masks_on({9}, {9}, {9})
    found = panels(volumes, masks, (still(Role.ADC), still(Role.FLAIR), still(Role.T2)))
    assert found.roles == (Role.T1CE, Role.FLAIR, Role.ADC)


def test_a_series_outside_of_the_slices_is_nan() -> None:
    far = Geometry.axial((10, 10, 10), (2, 2, 2), (500, 0, 0), "1.2")
    found = panels({Role.T1CE: field(T1CE), Role.ADC: field(far)}, masks_on({9}, {9}, {9}), (still(Role.ADC),))
    assert np.isnan(found.pixels[1]).all()


def test_too_few_slices_for_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        panels({Role.T1CE: field(T1CE)}, masks_on({9}, {9}, {9}), (), most=2)
