"""Boxes hold the mask with its margin and are clipped to the grid."""

import numpy as np
import pytest
import torch

from pipeline.boxes import box_around


def test_a_box_holds_the_mask_and_the_margin_and_ends_with_the_grid() -> None:
    mask = torch.zeros(10, 12, 14, dtype=torch.bool)
    mask[4, 1, 13] = mask[5, 3, 9] = True
    assert box_around(mask, 0) == (slice(4, 6), slice(1, 4), slice(9, 14))
    assert box_around(mask, 2) == (slice(2, 8), slice(0, 6), slice(7, 14))


def test_there_is_no_box_around_nothing() -> None:
    assert box_around(torch.zeros(3, 4, 5, dtype=torch.bool), 1) is None


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2, 1.0])
def test_a_box_begins_and_ends_with_the_first_and_the_last_voxel_along_each_axis(share: float) -> None:
    for seed in range(10):
        mask = torch.rand(9, 7, 8, generator=torch.Generator().manual_seed(seed)) < share
        places = np.argwhere(mask.numpy())
        expected = (
            tuple(slice(low, high + 1) for low, high in zip(places.min(0), places.max(0), strict=True))
            if len(places)
            else None
        )
        assert box_around(mask, 0) == expected
