"""A sample has channels and label fractions on one grid, cropped to the head, with the lesion where it is visible."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.training.synthetic.augment import CHANNELS, augment, label_fractions, pooled
from models.training.synthetic.head import synthesise
from models.training.synthetic.tissue import Tissue
from models.training.synthetic.tumour import Variant
from pipeline.alignment import as_matrix
from pipeline.resample import resample
from pipeline.volume import IDENTITY, Geometry


def ramps(geometry: Geometry) -> torch.Tensor:
    """Return world x, y and z of every voxel: (3, slices, rows, columns)."""
    indices = np.indices(geometry.shape).reshape(3, -1)
    world = geometry.affine[:3, :3] @ indices + geometry.affine[:3, 3:]
    return torch.from_numpy(world.reshape(3, *geometry.shape).astype(np.float32))


def test_pooling_and_resampling_keep_world_coordinates() -> None:
    source = Geometry.axial((40, 44, 48), (1.0, 1.0, 1.0), (3.0, -2.0, 5.0), "")
    voxel = (5, 2, 1)
    coarse = torch.nn.functional.avg_pool3d(ramps(source), voxel)
    assert coarse.numpy() == pytest.approx(ramps(pooled(source, voxel)).numpy(), abs=1e-4)
    target = Geometry.axial((12, 14, 16), (1.5, 1.5, 1.5), (2.0, -1.0, 4.0), "")
    shift = np.eye(4)
    shift[:3, 3] = (1.0, 2.0, -3.0)
    moved = resample(coarse, pooled(source, voxel), target, as_matrix(shift))
    expected = ramps(target).numpy() + np.array((1.0, 2.0, -3.0))[:, None, None, None]
    assert moved.numpy() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_is_normalised_and_its_labels_nest(seed: int) -> None:
    head = synthesise(31, Variant.UNIFOCAL, 4.0)
    sample = augment(head, np.random.default_rng(seed), 6.0)
    assert sample.channels.shape[0] == len(CHANNELS)
    assert sample.channels.shape[1:] == sample.fractions.shape[1:]
    assert torch.isfinite(sample.channels).all()
    assert sample.channels[0].min() >= 0
    assert sample.channels[0].max() <= 1  # ADC on its fixed scale
    enhancing, adc, flair = sample.fractions
    assert adc.max() > 0.9
    # The fractions must keep the rule that 1 is inside 3 and 3 inside 2.
    assert (enhancing <= flair + 1e-6).all()
    assert (flair <= adc + 1e-6).all()


def test_the_lesion_is_visible_where_the_truth_is() -> None:
    head = synthesise(32, Variant.UNIFOCAL, 4.0)
    brighter = []
    for seed in range(6):
        sample = augment(head, np.random.default_rng(seed), 6.0)
        flair, adc = sample.channels[1], sample.channels[0]
        lesion, head_elsewhere = sample.fractions[2] > 0.5, (sample.channels[2] > 0) & (sample.fractions[1] == 0)
        brighter.append(float(flair[lesion].median() - flair[head_elsewhere].median()))
        assert 900 / 3500 < float(adc[sample.fractions[1] > 0.9].median()) < 2500 / 3500
    assert np.median(brighter) > 0.2


def test_white_matter_varies_in_brightness() -> None:
    head = synthesise(35, Variant.LESION_FREE, 4.0)
    white = replace(head, tissue=np.where(head.tissue == Tissue.AIR, Tissue.AIR, Tissue.WHITE))
    spread = []
    for seed in range(6):
        adc = augment(white, np.random.default_rng(seed), 6.0).channels[:1]
        # Means of 125 voxels that all lie inside the head: noise and fine texture are averaged away.
        means = torch.nn.functional.avg_pool3d(adc, 5, stride=1)
        inside = -torch.nn.functional.max_pool3d(-(adc > 0.1).float(), 5, stride=1) > 0
        low, middle, high = means[inside].quantile(torch.tensor((0.1, 0.5, 0.9)))
        spread.append(float((high - low) / middle))
    assert np.median(spread) > 0.025


def test_a_stripped_head_has_brain_and_lesion_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    head = synthesise(31, Variant.UNIFOCAL, 4.0)
    shown = []
    for share in (0.0, 1.0):
        monkeypatch.setattr("models.training.synthetic.augment._STRIPPED", share)
        sample = augment(head, np.random.default_rng(3), 6.0)
        t1ce, adc = sample.channels[2], sample.channels[0]
        shown.append(int((t1ce != t1ce[0, 0, 0]).sum()))
        lesion = sample.fractions[1] > 0.9
        assert lesion.any()
        assert 900 / 3500 < float(adc[lesion].median()) < 2500 / 3500
    whole, stripped = shown
    assert 0.2 * whole < stripped < 0.75 * whole


def test_a_sample_is_cropped_to_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.synthetic.augment._STRIPPED", 0.0)  # of a head without skull less is left
    head = synthesise(33, Variant.LESION_FREE, 4.0)
    for seed in range(5):
        sample = augment(head, np.random.default_rng(seed), 6.0)
        # At most 9 mm of air, 2 voxels of 6 mm, and what noise adds; a head is 150 to 250 mm each way.
        for edge, (low, high) in zip(sample.fractions.shape[1:], ((130, 250), (160, 260), (140, 250)), strict=True):
            assert low < edge * 6.0 < high


def test_fractions_are_those_of_the_truth() -> None:
    head = synthesise(34, Variant.UNIFOCAL, 3.0)
    # A voxel of the head's grid has one tissue; eight points in a voxel twice as wide count its eight parts.
    truth = torch.from_numpy(head.truth(head.geometry)).float()
    wide = pooled(head.geometry, (2, 2, 2))
    fractions = label_fractions(head, wide, IDENTITY)
    size = [2 * edge for edge in wide.shape]
    expected = torch.nn.functional.avg_pool3d(truth[:, : size[0], : size[1], : size[2]], 2)
    assert torch.allclose(fractions, expected, atol=1e-4)
    assert fractions.max() == 1
    assert not label_fractions(synthesise(34, Variant.LESION_FREE, 3.0), wide, IDENTITY).any()


def test_fractions_follow_the_pose() -> None:
    head = synthesise(35, Variant.UNIFOCAL, 3.0)
    moved = np.eye(4)
    moved[:3, 3] = (6.0, -12.0, 18.0)  # two, four and six voxels of 3 mm, left, forward and up
    still, shifted = (label_fractions(head, head.geometry, as_matrix(matrix)) for matrix in (np.eye(4), moved))
    assert torch.allclose(shifted[:, 6:-12, 6:-6, 6:-6], still[:, 12:-6, 2:-10, 8:-4], atol=1e-4)
