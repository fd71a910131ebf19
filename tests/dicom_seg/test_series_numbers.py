"""Our series have numbers of their own in a study."""

from dataclasses import replace

import pytest

from dicom_seg.encode import encode
from dicom_seg.series_numbers import CAPTURES, DIAMETERS, MEASUREMENTS, SEG, first_free_block


def test_places_in_a_block_differ():
    places = [*SEG.values(), MEASUREMENTS, DIAMETERS, CAPTURES]
    assert len(set(places)) == len(places)
    assert all(0 < place < 10 for place in places)


@pytest.mark.parametrize(
    ("taken", "earlier", "base"),
    [
        ((), 0, 8000),
        ((1, 2, None, 8000, 8010), 0, 8000),
        ((8003,), 0, 8010),
        ((8001, 8012, 8029), 0, 8030),
        ((), 1, 8010),
        ((8003,), 1, 8020),
        ((8015,), 1, 8020),
    ],
)
def test_a_result_takes_the_next_free_block(taken, earlier, base):
    assert first_free_block(taken, earlier) == base


def test_every_object_is_numbered_from_the_block_of_its_result(make_result, with_everything, started):
    result = with_everything(make_result())
    numbers = [each.dataset.SeriesNumber for each in encode(result, started)]
    assert numbers == [8001, 8004, 8003, 8002, 8005, 8006, 8006]
    moved = [each.dataset.SeriesNumber for each in encode(replace(result, series_numbers_from=8020), started)]
    assert moved == [number + 20 for number in numbers]
