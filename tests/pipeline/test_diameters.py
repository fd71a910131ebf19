"""Diameters against shapes whose axes are known, and lines against the masks that they must stay in."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.diameters import lesion_diameters
from pipeline.result import Diameter, LesionDiameters
from pipeline.volume import Geometry

SHAPE = (9, 90, 110)


def grid(spacing_mm=(3.0, 0.7, 1.1), shape=SHAPE) -> Geometry:
    return Geometry.axial(shape, spacing_mm, (0, 0, 0), "1.2")


def ellipsoid(geometry, semi_axes_mm, degrees=0.0, centre=(4.0, 44.6, 54.3)) -> np.ndarray:
    """Semi-axes along slices, along the first in-plane axis (turned from the rows' direction), along the second."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    up, down, left = np.moveaxis((places - centre) * geometry.spacing_mm, -1, 0)
    angle = np.radians(degrees)
    first = np.cos(angle) * down + np.sin(angle) * left
    second = -np.sin(angle) * down + np.cos(angle) * left
    return sum((x / a) ** 2 for x, a in zip((up, first, second), semi_axes_mm, strict=True)) <= 1


def ends_mm(line: Diameter, geometry: Geometry) -> np.ndarray:
    return np.array([line.start, line.end]) * geometry.spacing_mm[1:]


def direction(line: Diameter, geometry: Geometry) -> np.ndarray:
    start, end = ends_mm(line, geometry)
    return (end - start) / np.linalg.norm(end - start)


def only(found: tuple[LesionDiameters, ...]) -> LesionDiameters:
    (lesion,) = found
    return lesion


@pytest.mark.parametrize("degrees", [0, 17, 45, 73, 90, 121])
@pytest.mark.parametrize("spacing_mm", [(3.0, 0.7, 1.1), (3.0, 1.0, 1.0)], ids=["anisotropic", "square"])
def test_an_ellipse_has_its_axes_within_a_voxel(degrees, spacing_mm):
    geometry = grid(spacing_mm)
    lesion = only(lesion_diameters(ellipsoid(geometry, (9, 22, 13), degrees), geometry))
    voxel = max(spacing_mm[1:])
    assert lesion.slice_index == 4
    assert lesion.long.length_mm == pytest.approx(2 * 22, abs=voxel)
    assert lesion.short.length_mm == pytest.approx(2 * 13, abs=voxel)
    axis = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    # Lines that are shorter by less than a voxel lie within this angle of the axis.
    slack = np.degrees(np.arccos(1 - voxel / 22)) * 13 / 22
    assert abs(direction(lesion.long, geometry) @ axis) > np.cos(np.radians(slack))
    assert direction(lesion.long, geometry) @ direction(lesion.short, geometry) == pytest.approx(0, abs=1e-9)
    for line in (lesion.long, lesion.short):
        assert line.length_mm == pytest.approx(np.ptp(ends_mm(line, geometry) @ direction(line, geometry)), abs=1e-5)


def test_lines_run_from_edge_to_edge_of_voxels():
    geometry = grid((3.0, 1.0, 1.0))
    mask = np.zeros(SHAPE, bool)
    mask[3:5, 20:30, 30:71] = True  # 10 mm wide and 41 mm long
    lesion = only(lesion_diameters(mask, geometry))
    # From the middle of the first short edge to that of the last, one row down for each end: 9 rows, 41 columns.
    assert lesion.long == Diameter((20.0, 29.5), (29.0, 70.5), pytest.approx(np.hypot(9, 41)))
    # Across, between two edges 10 mm apart and as oblique as the long one. Between centres it were 9 / cos, below 10.
    assert lesion.short.length_mm == pytest.approx(10 / (41 / np.hypot(9, 41)), abs=0.01)


@pytest.mark.parametrize(("diameter_mm", "measurable"), [(11.0, True), (9.0, False)])
def test_a_lesion_is_measurable_from_ten_millimetres(diameter_mm, measurable):
    geometry = grid((2.0, 0.5, 0.5))
    ball = ellipsoid(geometry, (diameter_mm / 2,) * 3)
    assert bool(lesion_diameters(ball, geometry)) is measurable
    flat = ellipsoid(geometry, (diameter_mm / 2, 20, diameter_mm / 2), 30)
    assert bool(lesion_diameters(flat, geometry)) is measurable


def test_a_lesion_on_one_slice_is_not_measurable():
    geometry = grid()
    mask = ellipsoid(geometry, (9, 22, 13))
    mask[[0, 1, 2, 3, 5, 6, 7, 8]] = False
    assert mask.any()
    assert lesion_diameters(mask, geometry) == ()


def test_necrosis_inside_a_rim_counts():
    geometry = grid()
    whole = ellipsoid(geometry, (9, 22, 15), 30)
    rim = whole & ~ellipsoid(geometry, (7, 19, 12), 30)
    assert lesion_diameters(rim, geometry) == lesion_diameters(whole, geometry) != ()


def open_rim(geometry, outer_mm, inner_mm) -> np.ndarray:
    """A ring of the same shape on every slice, cut open on its right."""
    rim = ellipsoid(geometry, (900, outer_mm, outer_mm)) & ~ellipsoid(geometry, (900, inner_mm, inner_mm))
    rim[:, 35:55, 60:] = False
    return rim


def test_lines_do_not_cross_an_open_rim():
    geometry = grid((3.0, 1.0, 1.0))
    outer_mm, inner_mm = 30, 17
    rim = open_rim(geometry, outer_mm, inner_mm)
    lesion = only(lesion_diameters(rim, geometry))

    def touching(outer, inner):
        """Length of the chord of a circle that just touches a smaller one around the same centre."""
        return 2 * np.sqrt(outer**2 - inner**2)

    # The outline lies within half a voxel of the circles, and a line may leave it by another half.
    assert touching(outer_mm - 0.5, inner_mm + 0.5) < lesion.long.length_mm < touching(outer_mm + 0.5, inner_mm - 1.0)
    assert missed_mm(lesion, geometry) <= 0.5
    assert outside_mm(lesion, rim, geometry) <= 0.75


def test_an_open_rim_with_a_thin_wall_is_not_measurable():
    geometry = grid((3.0, 1.0, 1.0))
    # 6 mm, although two perpendicular lines of over 30 mm lie in it: they do not meet.
    assert lesion_diameters(open_rim(geometry, 30, 24), geometry) == ()


def test_a_perpendicular_elsewhere_in_the_lesion_is_not_taken():
    geometry = grid((3.0, 1.0, 1.0))
    hook = np.zeros(SHAPE, bool)
    hook[:, 70:82, 10:100] = True  # the longest line is in here,
    hook[:, 46:82, 88:100] = True  # 36 mm meet it at its end,
    hook[:, 46:52, 40:100] = True
    hook[:, 2:60, 40:52] = True  # and 58 mm do not
    lesion = only(lesion_diameters(hook, geometry))
    down, along = np.abs(direction(lesion.long, geometry))
    assert along > 6 * down
    assert 36 - 12 * down / along <= lesion.short.length_mm <= 36 / along + 0.01
    assert missed_mm(lesion, geometry) <= 0.5


def test_a_lesion_inside_the_reach_of_another_is_measured_by_itself():
    geometry = grid((3.0, 1.0, 1.0))
    ball = ellipsoid(geometry, (9, 20, 20))
    thin_rim = open_rim(geometry, 30, 24)  # not measurable, but all around the ball
    assert lesion_diameters(thin_rim | ball, geometry) == lesion_diameters(ball, geometry) != ()


def outside_mm(lesion: LesionDiameters, mask: np.ndarray, geometry: Geometry) -> float:
    """How far the lines leave the voxels of the mask, holes filled, rounded up to the next quarter of a voxel."""
    plane = ndimage.binary_fill_holes(mask[lesion.slice_index])
    quarters = np.pad(plane, 2).repeat(4, axis=0).repeat(4, axis=1)
    away = ndimage.distance_transform_edt(~quarters, sampling=np.array(geometry.spacing_mm[1:]) / 4)
    furthest = 0.0
    for line in (lesion.long, lesion.short):
        start, end = np.array(line.start), np.array(line.end)
        at = start + np.linspace(0, 1, 500)[1:-1, None] * (end - start)  # the ends lie on edges
        row, column = np.floor(4 * (at + 2.5)).astype(int).T
        furthest = max(furthest, away[row, column].max())
    return furthest


def missed_mm(lesion: LesionDiameters, geometry: Geometry) -> float:
    """How far one line would have to be lengthened to meet the other; 0 where they cross."""
    missed = 0.0
    for line, other in ((lesion.long, lesion.short), (lesion.short, lesion.long)):
        along = direction(line, geometry)
        low, high = np.sort(ends_mm(line, geometry) @ along)
        at = ends_mm(other, geometry)[0] @ along  # perpendicular lines: all of the other is there
        missed = max(missed, low - at, at - high)
    return missed


def test_parts_that_join_on_another_slice_are_not_bridged():
    geometry = grid((3.0, 1.0, 1.0), (20, 60, 120))
    mask = np.zeros(geometry.shape, bool)
    for step, index in enumerate(range(18)):  # two legs that lean towards each other and meet at the top
        for sign in (-1, 1):
            column = 60 + sign * (6 + 2 * (17 - step))
            mask[index, 20:38, column - 7 : column + 8] = True
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
    joined = [index for index in range(20) if ndimage.label(mask[index], np.ones((3, 3)))[1] == 1]
    assert joined == [17]
    mask[17] = False
    mask[17, 20:38, 54:67] = True  # the joint is smaller than either leg
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
    lesion = only(lesion_diameters(mask, geometry))
    # Of a leg, 18 by 15: from the middle of an edge to that of the opposite one, one of both ends shifted.
    assert lesion.long.length_mm == pytest.approx(max(np.hypot(18, 14), np.hypot(17, 15)))


def test_the_largest_five_come_first_wherever_they_are():
    geometry = grid((2.0, 1.0, 1.0), (40, 130, 130))
    mask = np.zeros(geometry.shape, bool)
    centres = {6.0: (8, 20, 20), 11.0: (30, 22, 95), 8.0: (9, 60, 20), 7.0: (28, 100, 20), 10.0: (10, 100, 60)}
    centres |= {9.0: (11, 60, 100), 4.0: (30, 100, 100)}
    for radius, centre in centres.items():
        mask |= ellipsoid(geometry, (radius,) * 3, centre=centre)
    found = lesion_diameters(mask, geometry)
    assert [lesion.lesion for lesion in found] == [1, 2, 3, 4, 5]
    for lesion, radius in zip(found, (11.0, 10.0, 9.0, 8.0, 7.0), strict=True):
        assert lesion.long.length_mm == pytest.approx(2 * radius, abs=1.0)
        index, *centre = centres[radius]
        assert lesion.slice_index == index
        assert ends_mm(lesion.long, geometry).mean(axis=0) == pytest.approx(centre, abs=1.0)
        assert ends_mm(lesion.short, geometry).mean(axis=0) == pytest.approx(centre, abs=1.0)


def test_a_lesion_at_the_border_of_the_grid_is_measured():
    geometry = grid((3.0, 1.0, 1.0), (4, 20, 16))
    lesion = only(lesion_diameters(np.ones(geometry.shape, bool), geometry))
    assert lesion.slice_index == 0  # all are alike
    assert lesion.long.length_mm == pytest.approx(max(np.hypot(20, 15), np.hypot(19, 16)))
    assert outside_mm(lesion, np.ones(geometry.shape, bool), geometry) == 0


def test_an_empty_mask_has_no_diameters():
    assert lesion_diameters(np.zeros(SHAPE, bool), grid()) == ()


@pytest.mark.parametrize("seed", range(6))
def test_lines_of_ragged_lesions_stay_in_them_and_are_perpendicular(seed):
    geometry = grid((3.0, 0.9, 0.7))
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), (1, 5, 5))
    mask = noise > np.quantile(noise, 0.8)
    found = lesion_diameters(mask, geometry)
    assert found
    assert found == lesion_diameters(mask, geometry)
    for lesion in found:
        assert 10 <= lesion.short.length_mm <= lesion.long.length_mm
        assert direction(lesion.long, geometry) @ direction(lesion.short, geometry) == pytest.approx(0, abs=1e-9)
        # Half a voxel beyond its edge at most, and half of a notch of two voxels that ends no line.
        assert outside_mm(lesion, mask, geometry) <= 0.5 + 1.0
        assert missed_mm(lesion, geometry) <= 0.5 * 0.9
