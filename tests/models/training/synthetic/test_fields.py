"""Distances are in millimetres, noise has its wavelength, and refining keeps positions."""

import numpy as np
import pytest

from models.training.synthetic.fields import (
    coarse_coordinates,
    ellipsoid,
    level_distance,
    noise,
    refine,
    smooth_union,
)

SHAPE = (40, 48, 44)


def test_refined_coordinates_are_those_of_the_fine_voxels() -> None:
    at = coarse_coordinates((8, 12, 10), 1.5, centre_mm=(3, -6, 2))
    fine = refine(at.x)
    assert fine.shape == (8, 12, 10)
    # Interpolation has nothing to lean on in the outermost half of a coarse voxel.
    expected = (np.arange(10) - 4.5) * 1.5 + 3
    assert fine[4, 5, 1:-1] == pytest.approx(expected[1:-1], abs=1e-4)
    assert refine(at.z)[1:-1, 5, 5] == pytest.approx(((np.arange(8) - 3.5) * 1.5 + 2)[1:-1], abs=1e-4)


def test_a_ball_is_an_exact_ellipsoid() -> None:
    at = coarse_coordinates(SHAPE, 1.0, (0, 0, 0))
    expected = np.sqrt((at.x - 2) ** 2 + at.y**2 + (at.z + 3) ** 2) - 9
    assert np.abs(ellipsoid(at, (2, 0, -3), (9, 9, 9)) - expected).max() < 1e-3


def test_an_ellipsoid_has_its_zeros_at_its_semi_axes_with_slope_one() -> None:
    at = coarse_coordinates((80, 80, 80), 0.5, (0, 0, 0))
    field = ellipsoid(at, (0.5, 0.5, 0.5), (6, 9, 12))
    middle = 20  # the voxel at 0.5 mm
    along_x = field[middle, middle, :]
    beyond = np.flatnonzero((at.x[0, 0] > 6.5) & (at.x[0, 0] < 8))
    assert along_x[beyond] == pytest.approx(at.x[0, 0][beyond] - 6.5, abs=0.2)


def test_smooth_union_contains_both_shapes() -> None:
    at = coarse_coordinates(SHAPE, 1.0, (0, 0, 0))
    first, second = ellipsoid(at, (-6, 0, 0), (8, 8, 8)), ellipsoid(at, (6, 0, 0), (8, 8, 8))
    union = smooth_union(first, second, 4)
    # Quadratic fillet: (blend - |difference|)^2 / (4 blend) where the two differ by less than the blend.
    depth = np.maximum(4 - np.abs(first - second), 0) ** 2 / (4 * 4)
    assert union == pytest.approx(np.minimum(first, second) - depth, abs=1e-3)
    assert depth.max() > 0.5


@pytest.mark.parametrize("wavelength", [10, 20])
def test_noise_crosses_zero_about_twice_a_wavelength(wavelength: float) -> None:
    field = noise(np.random.default_rng(1), (64, 64, 64), 2.0, wavelength, band=0.15)
    assert field.mean() == pytest.approx(0, abs=1e-3)
    assert field.std() == pytest.approx(1, abs=1e-3)
    crossings = np.count_nonzero(np.diff(np.signbit(field), axis=0)) / (63 * 64 * 64 * 2.0)
    # Rice: sqrt(<k_x^2>) / pi crossings a millimetre, and <k_x^2> = k^2 / 3 for isotropic noise.
    assert crossings == pytest.approx(2 / wavelength / np.sqrt(3), rel=0.12)


def test_noise_follows_from_the_generator() -> None:
    first, again, other = (noise(np.random.default_rng(seed), SHAPE, 2.0, 12) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_level_distance_of_a_scaled_plane_is_the_distance_to_it() -> None:
    at = coarse_coordinates(SHAPE, 1.0, (0, 0, 0))
    assert level_distance(7 * (at.x - 3), 2.0) == pytest.approx(at.x - 3, abs=1e-3)
