"""Intermediate ADC: white matter found in a head of shells, and volumes counted by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.labels import PAPER_LABELS, Role
from pipeline.align import Aligned
from pipeline.intermediate_adc import Measured, measure_intermediate_adc, white_matter_adc
from pipeline.measure import adc_statistics
from pipeline.remarks import RemarkKind
from pipeline.result import LabelMeasurement
from pipeline.volume import Geometry, Volume

GRID = Geometry.axial((76, 76, 76), (2.5, 2.5, 2.5), (0, 0, 0), "1.2")
RADII_MM = (50, 64, 70, 76, 92)
"""Of white matter, grey matter, liquor, bone and muscle, from inside."""
VALUES = {
    Role.ADC: (740, 900, 3000, np.nan, 1000),
    Role.FLAIR: (250, 340, 60, 20, 180),
    Role.T1CE: (600, 450, 200, 30, 650),
    Role.T2: (250, 330, 900, 20, 150),
    Role.T1: (550, 420, 150, 30, 600),
}
STRUCTURAL = ({Role.T1CE, Role.FLAIR}, {Role.T1CE}, {Role.FLAIR}, {Role.T1}, {Role.T2}, {Role.T1, Role.T2, Role.FLAIR})
NOTHING = torch.zeros(GRID.shape, dtype=torch.bool)


def distance_mm(centre_mm: tuple[float, float, float] = (0, 0, 0)) -> NDArray[np.float64]:
    """Return the distance of each voxel from a point (slice, row, column), mm from the middle."""
    places = np.ogrid[:76, :76, :76]
    return np.sqrt(sum(((place - 37.5) * 2.5 - mm) ** 2 for place, mm in zip(places, centre_mm, strict=True)))


def shells(roles: set[Role]) -> Aligned:
    """A head of shells, with noise, seen by ADC and `roles`."""
    random, wanted = np.random.default_rng(1), (Role.ADC, *sorted(roles))
    tissue = np.searchsorted(RADII_MM, distance_mm())
    channels = np.stack([np.array([*VALUES[role], np.nan], np.float32)[tissue] for role in wanted])
    channels *= random.normal(1, 0.05, channels.shape)
    return Aligned(torch.from_numpy(channels).float(), wanted, Role.T1CE, GRID, ())


@pytest.mark.parametrize("roles", STRUCTURAL)
def test_white_matter_is_told_from_the_rest_by_any_structural_series(roles: set[Role]) -> None:
    assert white_matter_adc(shells(roles), NOTHING) == pytest.approx(VALUES[Role.ADC][0], rel=0.01)


def test_infiltrated_tissue_around_a_label_does_not_count() -> None:
    aligned = shells({Role.T1CE})
    lesion = torch.from_numpy(distance_mm((10, 0, -5)))
    aligned.channels[0][lesion < 37] = 1100
    # What is marked is smaller than what is infiltrated.
    assert white_matter_adc(aligned, lesion < 28) == pytest.approx(740, rel=0.01)
    without_margin = white_matter_adc(aligned, NOTHING)
    assert without_margin is not None
    assert without_margin > 1.02 * 740


@pytest.mark.parametrize("roles", [set(), {Role.T1CE}])
def test_without_another_series_or_enough_of_it_there_is_no_white_matter(roles: set[Role]) -> None:
    aligned = shells(roles)
    marked = NOTHING if not roles else torch.from_numpy(distance_mm() > 12)
    assert white_matter_adc(aligned, marked) is None


ADC_GRID = Geometry.axial((3, 10, 10), (5.0, 2.0, 2.0), (0, 0, 0), "1.2")
VOXEL_ML = 0.02


def measured(adc: NDArray[np.float32], mask: NDArray[np.bool_], below: float, aligned: Aligned) -> Measured:
    """Measure the same mask as all three labels of the paper."""
    volume = Volume(adc, ADC_GRID)
    statistics = [adc_statistics(mask, volume) if label.number < 3 else None for label in PAPER_LABELS]
    labels = [LabelMeasurement(label, 1.0, 1, found) for label, found in zip(PAPER_LABELS, statistics, strict=True)]
    return measure_intermediate_adc(labels, (np.stack([mask] * 3), volume), aligned, NOTHING, below)


def test_voxels_below_the_limit_are_counted_in_enhancing_tumour_and_adc_abnormality() -> None:
    adc = np.full(ADC_GRID.shape, 2500, np.float32)
    adc[0] = 800  # outside of the mask
    adc[1, :4, :5] = 1000  # 20 voxels
    adc[1, 4, :5] = np.nan  # failed fits
    mask = np.zeros(ADC_GRID.shape, bool)
    mask[1:] = True
    aligned = shells({Role.T1CE, Role.FLAIR})
    white = white_matter_adc(aligned, NOTHING)
    assert white is not None
    (enhancing, abnormal, flair), (remark,) = measured(adc, mask, 1.5, aligned)
    assert enhancing.intermediate_adc == abnormal.intermediate_adc
    assert enhancing.intermediate_adc is not None
    assert enhancing.intermediate_adc.volume_ml == pytest.approx(20 * VOXEL_ML)
    assert (enhancing.intermediate_adc.below, enhancing.intermediate_adc.white_matter) == (1.5 * white, white)
    assert flair.intermediate_adc is None
    assert remark.kind is RemarkKind.EXPERIMENT
    assert "an experiment that is not validated" in remark.text
    assert f"below {1.5 * white:.0f} x 10-6 mm2/s, 1.5 times the median" in remark.text
    (enhancing, *_), _ = measured(adc, mask, 1.2, aligned)  # 1000 is more than 1.2 times 740
    assert enhancing.intermediate_adc is not None
    assert enhancing.intermediate_adc.volume_ml == 0


def test_where_nothing_is_measured_the_remark_says_why() -> None:
    adc, mask = np.full(ADC_GRID.shape, 1000, np.float32), np.ones(ADC_GRID.shape, bool)
    labels, (remark,) = measured(adc, mask, 1.5, shells(set()))
    assert "do not tell enough normal-looking white matter" in remark.text
    assert not any(each.intermediate_adc for each in labels)
    _, (remark,) = measured(adc, ~mask, 1.5, shells({Role.T1CE}))
    assert "no label that it is measured in has a voxel with an ADC" in remark.text
    same, (remark,) = measure_intermediate_adc(labels, None, shells({Role.T1CE}), NOTHING, 1.5)
    assert "the study has no ADC map" in remark.text
    assert same == labels
