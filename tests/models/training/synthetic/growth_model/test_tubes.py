"""Tubes have their axis and radius; beads fill the voxels near a curve."""

import numpy as np
import pytest

from models.training.synthetic.fields import below, coarse_coordinates, refine
from models.training.synthetic.growth_model.surfaces import from_ras
from models.training.synthetic.growth_model.tubes import FAR_MM, beads, curve, tube

AT = coarse_coordinates((100, 110, 96), 1.0, (0.0, 0.0, 0.0))


def test_a_tube_is_a_cylinder_with_round_ends() -> None:
    start, end = (10.0, -30.0, 0.0), (-20.0, -30.0, 0.0)
    distance = tube(AT, ((*start, 6.0), (*end, 6.0)))
    volume = np.count_nonzero(distance < 0) * 2.0**3
    assert volume == pytest.approx(np.pi * 6**2 * 30 + 4 / 3 * np.pi * 6**3, rel=0.08)
    x, y, z = from_ras(-5, -30, 0)
    off = np.hypot(AT.y - y, AT.z - z)
    near = (np.abs(AT.x - x) < 10) & (off < 12)
    assert distance[near] == pytest.approx(off[near] - 6, abs=1e-3)
    assert distance[0, 0, 0] == FAR_MM


def test_a_tube_outside_of_the_grid_is_empty() -> None:
    assert (tube(AT, ((300, 0, 0, 5), (320, 0, 0, 5))) == FAR_MM).all()


def test_a_tube_tapers_and_scales() -> None:
    path = ((30.0, -20.0, 0.0, 3.0), (-30.0, -20.0, 0.0, 9.0))
    widths = [np.count_nonzero((tube(AT, path, scale) < 0)[:, :, 10]) for scale in (1.0, 1.5)]
    across = (tube(AT, path) < 0).sum(axis=(0, 1))
    left, right = across[AT.x[0, 0] > 24].mean(), across[AT.x[0, 0] < -24].mean()
    assert left > 2 * right  # from_ras turns x around: -30 is left, and the wide end
    assert widths[1] > 1.5 * widths[0]


def test_a_curve_passes_through_its_points() -> None:
    path = ((0.0, 0.0, 0.0, 1.0), (10.0, 5.0, 0.0, 2.0), (20.0, 0.0, 5.0, 1.0))
    points, radii = curve(path)
    for place in path[:-1]:
        assert np.linalg.norm(points - np.array(from_ras(*place[:3])), axis=1).min() < 0.3
    assert radii.min() >= 1
    assert radii.max() == pytest.approx(2, abs=0.01)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() < 1


def test_beads_fill_balls_and_thin_lines() -> None:
    ball = beads(np.array([[20.3, 15.1, 17.6]]), np.array([6.2]), (40, 36, 38))
    assert ball.sum() == pytest.approx(4 / 3 * np.pi * 6.2**3, rel=0.05)
    assert np.argwhere(ball).mean(axis=0) == pytest.approx((20.3, 15.1, 17.6), abs=0.3)
    line = beads(np.array([[5.4, 5.4, z] for z in np.arange(3, 29.9, 0.3)]), np.full(90, 0.1), (40, 36, 38))
    assert np.array_equal(np.unique(np.argwhere(line)[:, 2]), np.arange(3, 31))
    assert line.sum() == 28
    assert not beads(np.array([[90.0, 5.0, 5.0]]), np.array([2.0]), (40, 36, 38)).any()
    assert not beads(np.zeros((0, 3)), np.zeros(0), (4, 4, 4)).any()


@pytest.mark.parametrize("level", [0.0, -2.0, 3.5])
def test_below_equals_refining_the_whole_field(level: float) -> None:
    field = tube(AT, ((5.0, -20.0, 10.0, 6.0), (-44.0, -40.0, 40.0, 3.0)))
    assert np.array_equal(below(field, level), refine(field) < level)
    assert below(field, level).any()
    assert not below(np.full((4, 4, 4), 9.0, np.float32)).any()
