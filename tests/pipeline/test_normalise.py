"""Normalised channels do not depend on gain and offset of the scanner, and ADC keeps its units."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.labels import Role
from pipeline.normalise import ADC_SCALE, head_mask, normalise, otsu_threshold

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


def plain_quantiles(values: Tensor, fractions: list[float], most: int) -> Tensor:
    step = max(1, values.numel() // most)
    return torch.quantile(values[::step], torch.tensor(fractions))


def plain_otsu(values: Tensor, most: int) -> float:
    """Otsu's threshold by its definition: of all thresholds between bins, the one that parts the values best."""
    values = values[torch.isfinite(values)]
    if not values.numel():
        return 0.0
    low, high = float(values.min()), float(plain_quantiles(values, [0.995], most)[0])
    if high <= low:
        return low
    counts = torch.histc(values.clamp(max=high), 256, low, high).double()
    centres = low + (torch.arange(256, dtype=torch.float64) + 0.5) * (high - low) / 256
    between = torch.zeros(256, dtype=torch.float64)
    for last in range(255):
        dark, bright = counts[: last + 1], counts[last + 1 :]
        if dark.sum() and bright.sum():
            means = (dark * centres[: last + 1]).sum() / dark.sum(), (bright * centres[last + 1 :]).sum() / bright.sum()
            between[last] = dark.sum() * bright.sum() * (means[0] - means[1]) ** 2
    return float(centres[between >= between.max() * (1 - 1e-9)].mean())


def plain_normalise(channels: Tensor, most: int) -> Tensor:
    """The scheme "robust-head-1" as its description reads, for (ADC, FLAIR, T1CE)."""
    adc, *weighted = channels
    t1ce = channels[2]
    head = torch.isfinite(t1ce) & (t1ce > 0.5 * plain_otsu(t1ce, most))
    scaled = [adc.clamp(0, ADC_SCALE) / ADC_SCALE]
    for channel in weighted:
        inside = channel[head & torch.isfinite(channel)]
        if not inside.numel():
            scaled.append(torch.zeros_like(channel))
            continue
        p10, median, p90 = plain_quantiles(inside, [0.1, 0.5, 0.9], most)
        scaled.append(((channel - median) / (p90 - p10).clamp(min=1e-6)).clamp(-3, 6))
    return torch.nan_to_num(torch.stack(scaled), nan=0.0)


def with_holes() -> Tensor:
    channels = study(1)
    channels[torch.rand(channels.shape, generator=torch.Generator().manual_seed(2)) < 0.3] = torch.nan
    return channels


def with_infinities() -> Tensor:
    channels = study(2)
    channels[:, 8, 8, 8], channels[:, 9, 9, 9] = torch.inf, -torch.inf
    return channels


def without_a_head() -> Tensor:
    channels = study(3)
    channels[2] = torch.nan
    return channels


def of_one_value() -> Tensor:
    return torch.full((3, 4, 4, 4), 7.0)


def of_one_voxel() -> Tensor:
    return torch.tensor([900.0, 50.0, 80.0])[:, None, None, None]


def below_zero() -> Tensor:
    channels = study(4)
    channels[1:] -= 600
    return channels


@pytest.mark.parametrize(
    "make", [study, with_holes, with_infinities, without_a_head, of_one_value, of_one_voxel, below_zero]
)
@pytest.mark.parametrize("most", [1_000_000, 1000])
def test_every_bit_is_as_the_scheme_says_because_networks_were_trained_on_it(
    make: Callable[[], Tensor], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.normalise._MAX_SAMPLES", most)
    channels = make()
    before = channels.clone()
    found = normalise(channels, ROLES)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain_normalise(channels, most))
    assert torch.equal(channels.nan_to_num(1e9), before.nan_to_num(1e9))


def test_otsu_counts_more_voxels_than_one_histogram_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    values = with_infinities()[2]
    expected = otsu_threshold(values)
    monkeypatch.setattr("pipeline.normalise._COUNTED_AT_ONCE", 1000)
    assert otsu_threshold(values) == expected


def test_without_t1ce_the_head_is_that_of_another_weighted_series() -> None:
    channels = study()
    flair, adc = channels[[ROLES.index(Role.FLAIR), ROLES.index(Role.ADC)]]
    as_t1ce = normalise(torch.stack([flair, adc, flair]), (Role.T2, Role.ADC, Role.T1CE))
    found = normalise(torch.stack([adc, flair]), (Role.ADC, Role.FLAIR))
    assert torch.equal(found, as_t1ce[[1, 2]])
