"""Spacing, extent and size of what may be a scan of a head."""

from dataclasses import replace

import pytest

from models.labels import Role
from pipeline.errors import GeometryImpossible
from pipeline.geometry_bounds import check_head_geometry
from pipeline.volume import Geometry

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def geometry(shape: Shape, spacing_mm: Spacing) -> Geometry:
    return Geometry.axial(shape, spacing_mm, (0.0, 0.0, 0.0), "1.2.3")


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((192, 256, 256), (0.9, 0.9, 0.9)),  # a 3D T1 of a whole head
        ((384, 512, 448), (0.5, 0.5, 0.5)),  # at 7 T
        ((28, 1024, 1024), (5.0, 0.2, 0.2)),  # interpolated
        ((20, 64, 64), (6.0, 3.75, 3.75)),  # diffusion
        ((14, 256, 256), (10.0, 0.9, 0.9)),  # slices of 5 mm with as much between them
        ((155, 240, 240), (1.0, 1.0, 1.0)),  # a public data set
        ((60, 70, 58), (2.0, 2.0, 2.0)),  # cropped to the brain
        ((12, 160, 160), (5.5, 1.4, 1.4)),  # broken off: coverage judges it
        ((400, 256, 256), (0.4, 0.9, 0.9)),  # overlapping slices
    ],
)
def test_what_scanners_make_passes(shape: Shape, spacing_mm: Spacing) -> None:
    check_head_geometry("1.2.3", Role.ADC, geometry(shape, spacing_mm))


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "words"),
    [
        ((176, 224, 240), (1.0, 1e-6, 1e-6), "pixels are 1e-06 x 1e-06 mm"),
        ((176, 224, 240), (1.0, 1000.0, 1000.0), "pixels are 1000 x 1000 mm"),
        ((32, 256, 256), (0.01, 0.9, 0.9), "slices are 0.01 mm apart"),
        ((32, 256, 256), (50.0, 0.9, 0.9), "slices are 50 mm apart"),
        ((32, 256, 256), (0.0, 0.9, 0.9), "slices are 0 mm apart"),
        ((10, 256, 256), (1.0, 0.9, 0.9), "extend over 10 mm"),
        ((400, 256, 256), (5.0, 0.9, 0.9), "extend over 2000 mm"),
        ((32, 512, 512), (5.0, 4.0, 4.0), "show 2048 x 2048 mm"),
        ((32, 100, 256), (5.0, 0.1, 0.9), "show 10 x 230.4 mm"),
        ((32, 8, 8), (5.0, 6.0, 6.0), "show 48 x 48 mm"),
        ((32, 20, 64), (5.0, 4.0, 4.0), "20 x 64 pixels"),
        ((2, 256, 256), (15.0, 0.9, 0.9), "2 slices are too few"),
        ((32, 256, 256), (5.0, 0.3, 1.8), "0.3 x 1.8 mm, which is no shape of a pixel"),
        ((20, 700, 700), (14.0, 0.2, 0.2), "voxels are 14 x 0.2 x 0.2 mm"),
        ((900, 1024, 1024), (0.25, 0.25, 0.25), "900 x 1024 x 1024 voxels"),
        ((32, 256, 256), (5.0, float("nan"), 0.9), "not finite"),
        ((32, 256, 256), (5.0, float("inf"), 0.9), "not finite"),
    ],
)
def test_what_no_scan_of_a_head_has_is_refused_with_series_and_value(
    shape: Shape, spacing_mm: Spacing, words: str
) -> None:
    with pytest.raises(GeometryImpossible, match=r"^Series 1\.2\.3 \(T1CE\): ") as refused:
        check_head_geometry("1.2.3", Role.T1CE, geometry(shape, spacing_mm))
    assert words in str(refused.value)


def test_a_position_that_is_no_number_is_refused() -> None:
    nowhere = replace(geometry((32, 256, 256), (5.0, 0.9, 0.9)), origin_mm=(float("nan"), 0.0, 0.0))
    with pytest.raises(GeometryImpossible, match="not finite"):
        check_head_geometry("1.2.3", Role.FLAIR, nowhere)
