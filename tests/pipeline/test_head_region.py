"""Distances within masks are those of the whole Euclidean transform."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.head_region import farther_inside


@pytest.mark.parametrize("radius_mm", [8.0, 10.0, 12.0, 16.0])
@pytest.mark.parametrize("share", [0.5, 0.97, 0.999])
def test_what_is_deeper_than_a_radius(radius_mm: float, share: float) -> None:
    mask = np.random.default_rng(1).uniform(size=(19, 23, 21)) < share
    expected = ndimage.distance_transform_edt(mask, sampling=4.0) > radius_mm
    np.testing.assert_array_equal(farther_inside(mask, radius_mm, 4.0), expected)


def test_each_slice_alone() -> None:
    mask = np.random.default_rng(1).uniform(size=(5, 23, 21)) < 0.95
    expected = np.stack([ndimage.distance_transform_edt(plane, sampling=4.0) > 8.0 for plane in mask])
    np.testing.assert_array_equal(farther_inside(mask, 8.0, 4.0, axes=(1, 2)), expected)


def test_without_anything_outside_all_is_deep_and_an_empty_mask_has_no_depth() -> None:
    assert farther_inside(np.ones((3, 4, 5), bool), 16.0, 4.0).all()
    assert not farther_inside(np.zeros((3, 4, 5), bool), 16.0, 4.0).any()
