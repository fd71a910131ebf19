import numpy as np
import pytest

from dicom_seg.patient_orientation import opposite_letters, orientation_letters, slice_position
from pipeline.volume import Geometry


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        # PS3.3 C.7.6.2.1.1: x grows to the left, y to the back, z to the head.
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 0.9, 0), "P"),
        ((0, -2, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -0.5), "F"),
        ((1, 0.2, -0.1), "L"),
        ((0.5, 0, -0.8), "FL"),
        ((-0.6, -0.7, 0.5), "ARH"),
    ],
)
def test_letters_are_ordered_by_component(direction, letters):
    assert orientation_letters(direction) == letters
    backwards = orientation_letters(tuple(-part for part in direction))
    assert opposite_letters(letters) == backwards


def axial(top_mm: float) -> Geometry:
    return Geometry.axial((11, 8, 8), (2, 1, 1), (1, 2, top_mm), "1.2")


@pytest.mark.parametrize(
    ("top_mm", "index", "place"),
    [(34.5, 5, "H 34.5 mm"), (34.5, 0, "H 24.5 mm"), (3, 0, "F 7.0 mm"), (0, 5, "F 0.0 mm")],
)
def test_a_slice_position_is_that_of_its_middle(top_mm, index, place):
    assert slice_position(axial(top_mm), index) == place


def test_a_sagittal_slice_has_a_position_from_right_to_left():
    affine = np.array([[1.5, 0, 0, -15], [0, 0, 1, 4], [0, -1, 0, 9], [0, 0, 0, 1]], float)
    geometry = Geometry.from_affine(affine, (21, 8, 8), "1.2")
    assert [slice_position(geometry, index) for index in (0, 20)] == ["R 15.0 mm", "L 15.0 mm"]
