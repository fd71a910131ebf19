"""Alignment recovers a known motion, and falls back to the scanner's geometry if the result is implausible."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from models.labels import Role
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from pipeline.errors import PlaceUncertain
from pipeline.volume import Geometry, Volume

CPU = torch.device("cpu")
T1CE_GRID = Geometry.axial((60, 72, 64), (2.5, 2.5, 2.5), (5, -10, 12), "1.2.3")


def head(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tissue classes of an ellipsoidal head with off-centre inner parts; 0 is air. `points` is (3, ...), mm."""
    x, y, z = points[0] - 5, points[1] + 10, points[2] - 12
    classes = np.zeros(points.shape[1:])
    classes[(x / 62) ** 2 + (y / 75) ** 2 + (z / 58) ** 2 < 1] = 1
    classes[((x - 12) / 30) ** 2 + ((y + 20) / 25) ** 2 + ((z - 8) / 26) ** 2 < 1] = 2
    classes[((x + 25) / 14) ** 2 + ((y - 30) / 20) ** 2 + ((z + 12) / 18) ** 2 < 1] = 3
    classes[((x + 20) / 12) ** 2 + ((y + 35) / 12) ** 2 + ((z - 20) / 16) ** 2 < 1] = 4
    return classes


def world_points(geometry: Geometry) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(size) for size in geometry.shape), indexing="ij"))
    return np.einsum("ij,jsrc->isrc", geometry.affine[:3, :3], index) + geometry.affine[:3, 3, None, None, None]


def volume(geometry: Geometry, values: list[float], motion: NDArray[np.float64] | None = None) -> Volume:
    """The head with a value for each class; `motion` (4 x 4) moves the head in the scanner's world."""
    points = world_points(geometry)
    if motion is not None:
        back = np.linalg.inv(motion)
        points = np.einsum("ij,jsrc->isrc", back[:3, :3], points) + back[:3, 3, None, None, None]
    pixels = np.array(values)[head(points).astype(int)]
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Volume((gaussian_filter(pixels, 0.7) + noise).astype(np.float32), geometry)


def motion_matrix(angles_deg: list[float], shift_mm: list[float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


THICK = Geometry.axial((28, 80, 72), (5.0, 2.2, 2.2), (5, -10, 12), "1.2.3")
T1CE = volume(T1CE_GRID, [0, 400, 650, 150, 900])
FLAIR_VALUES = [0.0, 500, 300, 900, 100]  # another contrast: order and signs differ


def test_a_known_motion_is_found_and_undone() -> None:
    motion = motion_matrix([3, -2, 4], [4, -3, 2.5])
    flair = volume(THICK, FLAIR_VALUES, motion)
    aligned = align({Role.T1CE: T1CE, Role.FLAIR: flair}, (Role.FLAIR, Role.T1CE), 3.0, 8, CPU)
    (found,) = aligned.alignments
    assert found.kept
    assert "gained" in found.why
    corners = np.array([[40, 40, 40, 1], [-40, 30, -30, 1], [20, -60, 30, 1], [5, -10, 12, 1.0]])
    error_mm = np.linalg.norm((np.array(found.matrix) @ corners.T - motion @ corners.T)[:3], axis=0)
    assert error_mm.max() < 1.5, error_mm
    np.testing.assert_allclose(np.array(found.inverse) @ np.array(found.matrix), np.eye(4), atol=1e-9)
    # On the common grid the classes of both series coincide.
    classes = head(world_points(aligned.grid))
    for number in (2, 3):
        inside = aligned.channels[0].numpy()[classes == number]
        assert np.nanmedian(inside) == pytest.approx(FLAIR_VALUES[number], rel=0.1)  # partial volume in 5 mm slices


def test_the_grid_is_axial_isotropic_around_the_head_and_a_multiple_of_the_stride() -> None:
    sagittal = np.array([[0, 0, 2.5, 5 - 80], [2.5, 0, 0, -10 - 90], [0, -2.5, 0, 12 + 75], [0, 0, 0, 1]])
    geometry = Geometry.from_affine(sagittal[:, [2, 1, 0, 3]], (64, 60, 72), "1.2.3")
    assert geometry.slice_step_mm == (2.5, 0, 0)
    aligned = align({Role.T1CE: volume(geometry, [0, 400, 650, 150, 900])}, (Role.T1CE,), 3.0, 8, CPU)
    grid = aligned.grid
    assert (grid.slice_step_mm, grid.row_step_mm, grid.column_step_mm) == ((0, 0, 3), (0, 3, 0), (3, 0, 0))
    assert all(size % 8 == 0 for size in grid.shape)
    extent = np.array(grid.shape) * 3.0
    assert (extent >= [116, 150, 124]).all()  # the head's diameters along z, y and x
    assert (extent <= np.array([116, 150, 124]) + 10 + 2 * 24).all()
    classes = head(world_points(grid))
    values = aligned.channels[0].numpy()
    for number, value in ((1, 400), (2, 650), (3, 150)):
        assert np.nanmedian(values[classes == number]) == pytest.approx(value, rel=0.12)  # partial volume at the edges


def test_networks_of_other_strides_see_the_same_grid() -> None:
    volumes = {Role.T1CE: volume(T1CE_GRID, [0, 400, 650, 150, 900])}
    eight, sixteen = (align(volumes, (Role.T1CE,), 3.0, stride, CPU) for stride in (8, 16))
    assert eight.grid == sixteen.grid
    torch.testing.assert_close(eight.channels, sixteen.channels, rtol=0, atol=0, equal_nan=True)
    assert all(size % 48 == 0 for size in align(volumes, (Role.T1CE,), 3.0, 24, CPU).grid.shape)


@pytest.mark.parametrize("offset_mm", [(0.0, 0.0, 0.0), (0.3, 1.2, -0.9), (1.25, -1.25, 1.25)])
def test_a_t1ce_of_the_grids_own_spacing_is_taken_as_it_is(offset_mm: tuple[float, float, float]) -> None:
    sagittal = np.array([[0, 0, 2.5, 5 - 80], [2.5, 0, 0, -10 - 90], [0, -2.5, 0, 12 + 75], [0, 0, 0, 1]])
    sagittal[:3, 3] += offset_mm
    t1ce = volume(Geometry.from_affine(sagittal[:, [2, 1, 0, 3]], (64, 60, 72), "1.2.3"), [0, 400, 650, 150, 900])
    aligned = align({Role.T1CE: t1ce}, (Role.T1CE,), 2.5, 8, CPU)
    found = aligned.channels[0].numpy()
    places = np.linalg.inv(t1ce.geometry.affine) @ aligned.grid.affine @ [*(np.array(found.shape) // 2), 1]
    np.testing.assert_allclose(places, np.round(places), atol=1e-6)
    # Every value between the grid's edges is one that was scanned: none is a mean of two, which noise would tell.
    kept = np.isin(np.round(found[np.isfinite(found)], 2), np.round(t1ce.pixels, 2))
    assert kept.mean() > 0.99


def test_a_motion_out_of_bounds_is_refused_and_the_coordinates_that_it_contradicts_are_not_used() -> None:
    flair = volume(THICK, FLAIR_VALUES, motion_matrix([3, -2, 4], [4, -3, 2.5]))
    settings = AlignSettings(max_rotation_deg=0.5)
    with pytest.raises(PlaceUncertain, match=r"FLAIR.*out of bounds"):
        align({Role.T1CE: T1CE, Role.FLAIR: flair}, (Role.T1CE, Role.FLAIR), 3.0, 8, CPU, settings)


def test_without_motion_the_scanners_geometry_is_kept() -> None:
    settings = AlignSettings(min_gain=0.05)
    aligned = align({Role.T1CE: T1CE, Role.FLAIR: volume(THICK, FLAIR_VALUES)}, (Role.FLAIR,), 3.0, 8, CPU, settings)
    assert not aligned.alignments[0].kept
    assert "too little" in aligned.alignments[0].why


def test_without_t1ce_the_series_are_aligned_with_the_finest_one_in_any_order() -> None:
    motion = motion_matrix([3, -2, 4], [4, -3, 2.5])
    volumes = {Role.FLAIR: volume(THICK, FLAIR_VALUES, motion), Role.T1: T1CE, Role.T2: T1CE}
    wanted = (Role.ADC, Role.FLAIR, Role.T1CE, Role.T1)
    aligned = align(volumes, wanted, 3.0, 8, CPU)
    assert aligned.reference is Role.T1
    assert aligned.roles == (Role.FLAIR, Role.T1), "the channels that the study has"
    assert [each.role for each in aligned.alignments] == [Role.FLAIR, Role.T2], "T2 is no channel, but has a place"
    assert aligned.alignments[0].kept
    classes = head(world_points(aligned.grid))
    for number in (2, 3):
        inside = aligned.channels[0].numpy()[classes == number]
        assert np.nanmedian(inside) == pytest.approx(FLAIR_VALUES[number], rel=0.1)
    other = align(dict(reversed(volumes.items())), wanted, 3.0, 8, CPU)
    assert other.alignments == aligned.alignments
    torch.testing.assert_close(other.channels, aligned.channels, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match="none of the channels"):
        align(volumes, (Role.ADC,), 3.0, 8, CPU)


def test_a_series_without_a_head_elsewhere_is_refused_by_its_uid() -> None:
    elsewhere = Geometry.axial((20, 40, 40), (5, 3, 3), (900, 900, 900), "1.2.3")
    noise = np.random.default_rng(0).rayleigh(20, elsewhere.shape).astype(np.float32)
    flair = Volume(noise, elsewhere, series_instance_uid="1.2.3.99")
    with pytest.raises(PlaceUncertain, match=r"1\.2\.3\.99 \(FLAIR\).*viewer"):
        align({Role.T1CE: T1CE, Role.FLAIR: flair}, (Role.FLAIR, Role.T1CE), 3.0, 8, CPU)


def test_the_same_input_gives_the_same_transform() -> None:
    flair = volume(THICK, FLAIR_VALUES, motion_matrix([1, 2, -1], [1, 2, 3]))
    adc = volume(THICK, [0, 800, 700, 3000, 1200], motion_matrix([-1, 0, 1], [0, 1, 0]))
    volumes = {Role.T1CE: T1CE, Role.FLAIR: flair, Role.ADC: adc}
    roles = (Role.ADC, Role.FLAIR, Role.T1CE)
    first, second = (align(volumes, roles, 3.0, 8, CPU) for _ in range(2))
    assert first.alignments == second.alignments
    np.testing.assert_array_equal(first.channels.numpy(), second.channels.numpy())
