"""Boxes hold the mask with its margin and are clipped to the grid."""

import torch

from pipeline.boxes import box_around


def test_a_box_holds_the_mask_and_the_margin_and_ends_with_the_grid() -> None:
    mask = torch.zeros(10, 12, 14, dtype=torch.bool)
    mask[4, 1, 13] = mask[5, 3, 9] = True
    assert box_around(mask, 0) == (slice(4, 6), slice(1, 4), slice(9, 14))
    assert box_around(mask, 2) == (slice(2, 8), slice(0, 6), slice(7, 14))


def test_there_is_no_box_around_nothing() -> None:
    assert box_around(torch.zeros(3, 4, 5, dtype=torch.bool), 1) is None
