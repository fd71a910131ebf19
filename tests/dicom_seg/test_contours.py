import numpy as np
import pytest

from dicom_seg.contours import LINE_PX, contour_map

SIZE = (240, 200)  # (width, height): 2 pixels a voxel of 100 rows and 120 columns


def masks_with(*boxes):
    """(labels, rows, columns) with one box (rows, columns) of each label; None is empty."""
    masks = np.zeros((3, 100, 120), bool)
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            mask[box] = True
    return masks


def test_a_contour_is_the_inner_edge_of_its_label_in_pixels_of_the_picture():
    drawn = contour_map(masks_with(None, np.s_[20:50, 30:70], None), SIZE)
    expected = np.zeros((200, 240), bool)
    expected[40:100, 60:140] = True  # two pixels a voxel
    expected[40 + LINE_PX : 100 - LINE_PX, 60 + LINE_PX : 140 - LINE_PX] = False
    assert np.array_equal(drawn > 0, expected)
    assert set(np.unique(drawn)) == {0, 2}


def test_a_label_at_the_edge_of_the_slice_is_closed_there():
    drawn = contour_map(masks_with(np.s_[:, :], None, None), SIZE)
    assert (drawn[0] == 1).all()
    assert (drawn[:, -1] == 1).all()
    assert (drawn[LINE_PX:-LINE_PX, LINE_PX:-LINE_PX] == 0).all()


@pytest.mark.parametrize("labels", [(1, 2), (1, 3), (2, 3), (1, 2, 3)])
def test_contours_that_coincide_alternate(labels):
    box = np.s_[20:60, 30:90]
    drawn = contour_map(masks_with(*(box if number in labels else None for number in (1, 2, 3))), SIZE)
    sides = (drawn[40, 60:180], drawn[119, 60:180], drawn[40:120, 60], drawn[40:120, 179])
    for side in sides:
        assert set(side) == set(labels)
        for start in range(len(side) - 28):  # seven dashes of four pixels
            assert set(side[start : start + 28]) == set(labels)


@pytest.mark.parametrize("labels", [(1, 2), (1, 2, 3)])
def test_contours_that_coincide_on_a_diagonal_alternate(labels):
    rows, columns = np.mgrid[:100, :120]
    for diamond in (np.abs(rows - 50) + np.abs(columns - 60) < 40, np.abs(rows - 51) + np.abs(columns - 57) < 38):
        drawn = contour_map(
            np.stack([diamond if number in labels else np.zeros_like(diamond) for number in (1, 2, 3)]), SIZE
        )
        for quarter in (drawn[:100, :120], drawn[:100, 120:], drawn[100:, :120], drawn[100:, 120:]):
            shares = [np.count_nonzero(quarter == number) / np.count_nonzero(quarter) for number in labels]
            assert min(shares) > 0.5 / len(labels)


def test_contours_that_cross_or_are_apart_are_drawn_whole():
    boxes = np.s_[20:60, 30:70], np.s_[40:80, 50:100], np.s_[90:95, 5:10]
    drawn = contour_map(masks_with(*boxes), SIZE)
    for number, box in enumerate(boxes, 1):
        alone = contour_map(masks_with(*(box if number == other else None for other in (1, 2, 3))), SIZE) == number
        shared = np.zeros_like(alone)
        for other, another in enumerate(boxes, 1):
            if other != number:
                shared |= contour_map(masks_with(*(another if other == n else None for n in (1, 2, 3))), SIZE) > 0
        assert (drawn[alone & ~shared] == number).all()


@pytest.mark.parametrize("size", [(240, 200), (120, 100), (47, 39)])
def test_a_single_voxel_is_visible_even_in_a_smaller_picture(size):
    masks = np.zeros((3, 100, 120), bool)
    masks[0, 33, 71] = True
    drawn = contour_map(masks, size)
    rows, columns = np.nonzero(drawn == 1)
    assert len(rows) > 0
    assert rows.mean() / size[1] == pytest.approx(33.5 / 100, abs=1 / size[1])
    assert columns.mean() / size[0] == pytest.approx(71.5 / 120, abs=1 / size[0])
