"""Measurements against numbers derived from the shapes."""

import numpy as np
import pytest
from scipy import ndimage

from models.labels import PAPER_LABELS
from pipeline.errors import UnitsUnknown
from pipeline.measure import adc_statistics, check_adc, count_lesions, measure
from pipeline.volume import Geometry, Volume

GRID = Geometry.axial((40, 44, 48), (1.2, 0.9, 0.8), (0, 0, 0), "1.2")
ADC_GRID = Geometry.axial((4, 5, 6), (5.0, 1.8, 1.8), (0, 0, 0), "1.2")


def test_a_ball_has_the_volume_of_a_ball() -> None:
    slices, rows, columns = np.ogrid[:40, :44, :48]
    radius_mm = 14.0
    distance = ((slices - 19.5) * 1.2) ** 2 + ((rows - 21.5) * 0.9) ** 2 + ((columns - 23.5) * 0.8) ** 2
    ball = distance <= radius_mm**2
    masks = np.stack([ball, ball, np.zeros_like(ball)])
    adc = Volume(np.full(ADC_GRID.shape, 900, np.float32), ADC_GRID)
    found = measure(masks, GRID, (np.zeros((3, *ADC_GRID.shape), bool), adc))
    assert [entry.label for entry in found] == list(PAPER_LABELS)
    assert found[0].volume_ml == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.01)
    assert (found[2].volume_ml, found[2].lesion_count) == (0, 0)
    assert found[0].adc is None  # no voxel of the ADC grid lies inside


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert count_lesions(mask) == 1
    mask[2, 2, 2] = False
    mask[3, 3, 3] = True
    assert count_lesions(mask) == 2
    assert count_lesions(np.zeros((5, 5, 5), bool)) == 0


@pytest.mark.parametrize("share", [0.0, 0.003, 0.02, 0.1, 1.0])
def test_lesions_are_counted_up_to_the_ends_of_the_grid(share: float) -> None:
    for seed in range(5):
        mask = np.random.default_rng(seed).random((9, 8, 10)) < share
        assert count_lesions(mask) == ndimage.label(mask, np.ones((3, 3, 3)))[1]


def test_adc_is_read_inside_the_mask_and_without_failed_fits() -> None:
    pixels = np.arange(120, dtype=np.float32).reshape(ADC_GRID.shape)
    inside = pixels.copy()
    inside[0, 0, 0] = np.nan
    mask = np.zeros(ADC_GRID.shape, bool)
    mask[0] = True  # values 0..29, the first one a failed fit
    found = adc_statistics(mask, Volume(inside, ADC_GRID))
    assert found is not None
    assert found.voxel_count == 29
    assert (found.minimum, found.maximum, found.mean, found.median) == (1, 29, 15, 15)
    assert found.standard_deviation == pytest.approx(np.sqrt((29**2 - 1) / 12))  # of 29 consecutive integers
    assert found.percentile_10 == pytest.approx(1 + 0.1 * 28)
    assert found.percentile_90 == pytest.approx(1 + 0.9 * 28)


def test_adc_of_failed_fits_only_is_not_measured() -> None:
    nothing = Volume(np.full(ADC_GRID.shape, np.nan, np.float32), ADC_GRID)
    assert adc_statistics(np.ones(ADC_GRID.shape, bool), nothing) is None


@pytest.mark.parametrize(("value", "refused"), [(3900.0, False), (4100.0, True)])
def test_adc_beyond_water_is_a_fault_of_the_map(value: float, refused: bool) -> None:
    grid = Geometry.axial((2, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), "")
    masks = np.zeros((len(PAPER_LABELS), 2, 4, 4), bool)
    masks[0, 1] = True
    adc = np.full((2, 4, 4), 900.0, np.float32)
    adc[1] = value
    adc[1, 0, 0] = 4095.0  # a saturated voxel is none
    measured = measure(masks, grid, (masks, Volume(adc, grid)))
    if refused:
        with pytest.raises(UnitsUnknown, match=r"Series 1\.2\.3: the mean of its ADC inside enhancing tumour is 41"):
            check_adc(measured, "1.2.3")
    else:
        check_adc(measured, "1.2.3")
