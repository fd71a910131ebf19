"""Each artefact has the effect that its name says, within its bounds."""

import numpy as np
import pytest
import torch

from models.labels import Role
from models.training.synthetic import artefacts
from pipeline.volume import Geometry

GEOMETRY = Geometry.axial((10, 60, 50), (5.0, 3.0, 3.0), (0.0, -10.0, 0.0), "")


def test_voxels_are_thick_along_one_axis_at_most() -> None:
    drawn = {artefacts.draw_voxel(np.random.default_rng(seed), Role.FLAIR, 1.0) for seed in range(200)}
    assert all(sorted(voxel)[0] == sorted(voxel)[1] <= 3 for voxel in drawn)
    assert (3, 3, 3) in drawn, "of low resolution throughout"
    assert {max(voxel) for voxel in drawn} >= {1, 2, 3, 4, 5, 6}
    assert {int(np.argmax(voxel)) for voxel in drawn if max(voxel) > 2} == {0, 1, 2}
    of_adc = [artefacts.draw_voxel(np.random.default_rng(seed), Role.ADC, 1.0)[1:] for seed in range(40)]
    assert set(of_adc) == {(2, 2), (3, 3)}


def test_the_distortion_runs_front_to_back_and_is_small() -> None:
    steps = torch.arange(60, dtype=torch.float32)[None, None, :, None].expand(1, 10, 60, 50).contiguous()
    across = torch.arange(50, dtype=torch.float32).expand(1, 10, 60, 50).contiguous()
    moved = []
    for seed in range(40):
        bent = artefacts.distort_echo_planar(torch.cat((steps, across)), GEOMETRY, np.random.default_rng(seed))
        assert torch.allclose(bent[1], across[0], atol=1e-3)  # nothing moves from side to side
        moved.append(float((bent[0] - steps[0])[:, 5:-5].abs().max()) * 3.0)
    assert 0.0 in moved  # corrected scans
    assert 1.0 < max(moved) < 12.0


def test_failed_fits_are_zero_missing_or_noise() -> None:
    product, weight = torch.full((1, 8, 8, 8), 800.0), torch.ones((1, 8, 8, 8))
    weight[:, :4] = 0.0
    product[:, :4] = 0.0
    outside = set()
    for seed in range(60):
        adc = artefacts.make_adc_map(torch.cat((product, weight)), 1.0, np.random.default_rng(seed))
        assert float(adc[:, 4:].median()) == pytest.approx(800, rel=0.15)
        air = adc[:, :4]
        outside.add("missing" if air.isnan().any() else "zero" if not air.any() else "noise")
    assert outside == {"missing", "zero", "noise"}


def test_a_magnitude_image_is_never_negative_and_keeps_the_order_of_tissues() -> None:
    native = torch.zeros((1, 12, 40, 40))
    native[:, :, 10:30, 10:30] = 1.0
    native[:, :, 18:22, 18:22] = 2.0
    for seed in range(20):
        image = artefacts.make_weighted_image(native.clone(), np.random.default_rng(seed))
        assert image.min() >= 0
        air, tissue, bright = image[native == 0].mean(), image[native == 1].mean(), image[native == 2].mean()
        assert 2 * air < tissue < bright


def test_the_residual_misalignment_is_small() -> None:
    moved = [artefacts.draw_misalignment(np.random.default_rng(seed)) for seed in range(200)]
    lengths = [float(np.linalg.norm(matrix[:3, 3])) for matrix in moved]
    assert min(lengths) == 0
    assert 1.5 < max(lengths) <= 3.0


def test_a_channel_of_low_resolution_keeps_its_mean_and_loses_its_details() -> None:
    channels = torch.randn(3, 24, 24, 24, generator=torch.Generator().manual_seed(1)) + 2
    kinds = set()
    for seed in range(12):
        coarse = artefacts.lower_resolution(channels, np.random.default_rng(seed))
        (changed,) = [n for n in range(3) if not torch.equal(coarse[n], channels[n])]
        assert float(coarse[changed].mean()) == pytest.approx(float(channels[changed].mean()), abs=0.05)
        smooth = [
            float(coarse[changed].diff(dim=axis).std() / channels[changed].diff(dim=axis).std()) for axis in range(3)
        ]
        kinds.add(sum(ratio < 0.5 for ratio in smooth))
    assert kinds == {1, 3}, "thick slices, and large voxels"
