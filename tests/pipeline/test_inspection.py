"""Every series of a study is listed with its geometry, or the reason why it cannot be read."""

import numpy as np
import pytest

from models.labels import Role
from pipeline.inspection import inspect_study, plane
from pipeline.rules import load_rules
from pipeline.scan import scan
from pipeline.volume import Geometry


def test_every_series_is_listed(make, box):
    make.classic(box, "AX T2 FLAIR", SeriesNumber=1)
    make.classic(box, "T1 with a gap", SeriesNumber=2)[2].unlink()
    make.classic(box, "report", SeriesNumber=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    flair, gap, report = inspect_study(scan([make.folder]).studies[0], load_rules())
    assert (flair.role, flair.plane, flair.refusal, flair.image_count) == (Role.FLAIR, "axial", "", 6)
    np.testing.assert_allclose(flair.geometry.affine, box.affine, atol=1e-9)
    assert (gap.geometry, gap.plane) == (None, "")
    assert gap.refusal.startswith("SlicesMissing: Series 1.2.826")
    assert report.refusal.startswith("TooFewSlices")


@pytest.mark.parametrize(
    ("normal", "name"),
    [
        ((0, 0, 1), "axial"),
        ((-1, 0, 0), "sagittal"),
        ((0, 1, 0), "coronal"),
        ((0, 0.34, 0.94), "axial"),  # 20 degrees
        ((0, 0.707, 0.707), "oblique"),
    ],
)
def test_planes(normal, name):
    across = np.cross(normal, (0.3, 0.5, 0.7))
    down = np.cross(normal, across)
    affine = np.eye(4)
    affine[:3, :3] = np.array([normal, across, down]).T
    assert plane(Geometry.from_affine(affine, (3, 3, 3), "1.2")) == name
