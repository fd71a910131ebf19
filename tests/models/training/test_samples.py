"""Training samples: truth and channels on one grid, the stream reproducible, crops whole."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from models.training.samples import CHANNELS, HeadSamples, Sample, SampleSettings, crop, dress, pooled, resample_to
from models.training.synthesis import synthesise
from models.training.tumour import Variant
from pipeline.volume import Geometry

TOY = SampleSettings(spacing_mm=6.0, patch=16, batch=2, stride=8, head_spacing_mm=4.0)


def ramps(geometry: Geometry) -> torch.Tensor:
    """(3, slices, rows, columns): world x, y and z of every voxel."""
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
    moved = resample_to(coarse, pooled(source, voxel), target, shift)
    expected = ramps(target).numpy() + np.array((1.0, 2.0, -3.0))[:, None, None, None]
    assert moved.numpy() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_dressed_head_is_normalised_and_its_labels_nest(seed: int) -> None:
    head = synthesise(31, Variant.UNIFOCAL, TOY.head_spacing_mm)
    sample = dress(head, np.random.default_rng(seed), TOY)
    assert sample.channels.shape[0] == len(CHANNELS)
    assert sample.channels.shape[1:] == sample.masks.shape[1:]
    assert torch.isfinite(sample.channels).all()
    assert sample.channels[0].min() >= 0
    assert sample.channels[0].max() <= 1  # ADC on its fixed scale
    enhancing, adc, flair = sample.masks
    assert adc.any()
    # Resampling each mask by itself must not break the rule that 1 lies in 3 and 3 in 2.
    assert not (enhancing & ~flair).any()
    assert not (flair & ~adc).any()


def test_dressing_shows_the_lesion_where_the_truth_is() -> None:
    head = synthesise(32, Variant.UNIFOCAL, TOY.head_spacing_mm)
    brighter = []
    for seed in range(6):
        sample = dress(head, np.random.default_rng(seed), TOY)
        flair, adc = sample.channels[1], sample.channels[0]
        lesion, head_elsewhere = sample.masks[2], (sample.channels[2] > 0) & ~sample.masks[1]
        brighter.append(float(flair[lesion].median() - flair[head_elsewhere].median()))
        assert 900 / 3500 < float(adc[sample.masks[1]].median()) < 2500 / 3500
    assert np.median(brighter) > 0.2


def numbered(shape: tuple[int, int, int]) -> Sample:
    """Every voxel has its own number in all channels; one voxel is lesion."""
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    masks = torch.zeros((3, *shape), dtype=torch.bool)
    masks[:, 3, 17, 5] = True
    return Sample(values.expand(3, *shape).clone() + 1, masks)


def test_crops_are_pieces_flipped_or_not() -> None:
    sample = numbered((24, 32, 16))
    flipped, with_lesion = 0, 0
    for seed in range(60):
        piece = crop(sample, (16, 16, 8), np.random.default_rng(seed))
        assert piece.channels.shape == (3, 16, 16, 8)
        step = float(piece.channels[0, 0, 0, 1] - piece.channels[0, 0, 0, 0])
        assert abs(step) == 1
        flipped += step < 0
        with_lesion += bool(piece.masks.any())
        # The mask moves with the voxels: the lesion's number stays the lesion's.
        for value in piece.channels[0][piece.masks[0]]:
            assert value == sample.channels[0, 3, 17, 5]
    assert 15 < flipped < 45
    assert with_lesion >= 40


def test_a_crop_larger_than_the_sample_is_padded_with_nothing() -> None:
    sample = numbered((24, 32, 16))
    piece = crop(sample, (32, 40, 24), np.random.default_rng(0))
    assert piece.channels.shape == (3, 32, 40, 24)
    assert np.count_nonzero(piece.channels[0]) == 24 * 32 * 16
    assert piece.masks.sum() == 3


def test_the_stream_follows_from_the_seed() -> None:
    first, again, other = (list(itertools.islice(HeadSamples(seed, TOY), 3)) for seed in (7, 7, 8))
    for (channels, masks), (channels_again, masks_again) in zip(first, again, strict=True):
        assert torch.equal(channels, channels_again)
        assert torch.equal(masks, masks_again)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True) if a[0].shape == b[0].shape)


def test_heads_are_seen_whole_as_often_as_asked() -> None:
    # A toy head has about 30 x 36 x 28 voxels of 6 mm; crops of 16 cubed are far smaller than it.
    sizes = {}
    for whole in (0.0, 1.0):
        stream = HeadSamples(2, dataclasses.replace(TOY, whole=whole))
        sizes[whole] = [channels[0, 0].numel() for channels, _ in itertools.islice(stream, 5)]
    assert max(sizes[0.0]) < 2 * 16**3
    assert min(sizes[1.0]) > 4 * 16**3


def test_a_dressed_head_is_cut_to_the_head() -> None:
    head = synthesise(33, Variant.LESION_FREE, TOY.head_spacing_mm)
    for seed in range(5):
        sample = dress(head, np.random.default_rng(seed), TOY)
        # At most 9 mm of air, 2 voxels of 6 mm, and what noise adds; a head is 150 to 250 mm each way.
        for edge, (low, high) in zip(sample.masks.shape[1:], ((130, 250), (160, 260), (140, 250)), strict=True):
            assert low < edge * TOY.spacing_mm < high


def test_batches_fit_the_network() -> None:
    for channels, masks in itertools.islice(HeadSamples(1, TOY), 6):
        assert channels.shape[:2] == (TOY.batch, len(CHANNELS))
        assert masks.shape == channels.shape
        assert all(edge % TOY.stride == 0 for edge in channels.shape[2:])
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
