"""Normalised channels do not depend on gain and offset of the scanner, and ADC keeps its units."""

import pytest
import torch

from models.labels import Role
from pipeline.normalise import head_mask, normalise, otsu_threshold

ROLES = (Role.ADC, Role.FLAIR, Role.T1CE)


def study(seed: int = 0) -> torch.Tensor:
    """(3, 24, 24, 24): a cube of tissue in air, every tissue voxel different."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.rand(3, 24, 24, 24, generator=generator) * 5
    channels[0, 6:18, 6:18, 6:18] = 600 + 2000 * torch.rand(12, 12, 12, generator=generator)
    channels[1:, 6:18, 6:18, 6:18] = 300 + 200 * torch.rand(2, 12, 12, 12, generator=generator)
    return channels


def test_the_scanners_gain_and_offset_do_not_matter() -> None:
    first = study()
    second = first.clone()
    second[2] = first[2] * 37
    second[1] = first[1] * 0.02 + 0.5
    torch.testing.assert_close(normalise(second, ROLES), normalise(first, ROLES), atol=1e-3, rtol=1e-3)


def test_adc_has_a_fixed_scale_whatever_the_rest_of_the_image() -> None:
    channels = study()
    channels[0, 0, 0, 0], channels[0, 0, 0, 1], channels[0, 0, 0, 2] = 3500, 700, 9999
    found = normalise(channels, ROLES)[0, 0, 0]
    assert found[:3].tolist() == pytest.approx([1.0, 0.2, 1.0])


def test_the_median_of_the_head_is_0_and_its_central_80_percent_have_width_1() -> None:
    found = normalise(study(), ROLES)[2, 6:18, 6:18, 6:18]
    low, middle, high = torch.quantile(found.flatten(), torch.tensor([0.1, 0.5, 0.9])).tolist()
    assert middle == pytest.approx(0, abs=1e-5)
    assert high - low == pytest.approx(1, abs=1e-5)


def test_missing_values_become_0_and_move_nothing_else() -> None:
    channels = study()
    holes = channels.clone()
    holes[:, 0, :, :] = torch.nan
    found, expected = normalise(holes, ROLES), normalise(channels, ROLES)
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, 1:], expected[:, 1:])


def test_an_empty_channel_is_0_everywhere() -> None:
    channels = study()
    channels[1] = torch.nan
    assert (normalise(channels, ROLES)[1] == 0).all()


def test_hot_voxels_are_clipped() -> None:
    channels = study()
    channels[2, 10, 10, 10] = 1e6
    assert normalise(channels, ROLES)[2].max() == 6.0


def test_otsu_separates_two_clusters_and_the_head_mask_finds_the_tissue() -> None:
    channels = study()
    assert 10 < otsu_threshold(channels[2]) < 300
    mask = head_mask(channels[2])
    assert mask[6:18, 6:18, 6:18].all()
    assert mask.sum() == 12**3
    assert otsu_threshold(torch.full((4, 4, 4), 7.0)) == 7.0
    assert otsu_threshold(torch.full((4, 4, 4), torch.nan)) == 0.0
