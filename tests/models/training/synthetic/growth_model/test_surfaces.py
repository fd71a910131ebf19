"""The average cortex is read from nilearn in template coordinates; without nilearn an error says what to install."""

import importlib.util

import numpy as np
import pytest

from models.training.synthetic.growth_model.surfaces import average_cortex, from_ras, outward_normals
from models.training.synthetic.nilearn_data import NilearnMissing

needs_nilearn = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None, reason="the surfaces are nilearn's, of the extra glionode[train]"
)


@needs_nilearn
def test_left_is_left_and_the_middle_is_the_origin() -> None:
    left, right = average_cortex()
    # LPS: x grows to the left, y to the back, z to the head.
    assert left.pial[:, 0].mean() > 20
    assert right.pial[:, 0].mean() < -20
    corners = np.concatenate((left.pial, right.pial))
    assert (corners.min(axis=0) + corners.max(axis=0))[:2] / 2 == pytest.approx((0, 0), abs=2)
    # Temporal poles are the lowest of the cortex and lie before its middle.
    lowest = left.pial[np.argsort(left.pial[:, 2])[:50]]
    assert lowest[:, 1].mean() < 20
    assert from_ras(-30, 20, 50) == (30, -38, 46)


@needs_nilearn
def test_normals_point_from_white_to_grey() -> None:
    for half in average_cortex():
        across = half.pial - half.white
        thick = np.linalg.norm(across, axis=1) > 1
        along = np.einsum("ij,ij->i", across, outward_normals(half.white, half.triangles))[thick]
        assert (along > 0).mean() > 0.98


def test_without_nilearn_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    average_cortex.cache_clear()
    with pytest.raises(NilearnMissing, match=r"Install glionode\[train\]"):
        average_cortex()
