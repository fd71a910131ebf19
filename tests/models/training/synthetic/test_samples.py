"""The stream of training batches is reproducible, and its crops are parts of heads."""

import dataclasses
import itertools

import numpy as np
import torch

from models.training.synthetic.augment import CHANNELS, Sample
from models.training.synthetic.samples import HeadSamples, SampleSettings, crop

TOY = SampleSettings(spacing_mm=6.0, patch=16, batch=2, stride=8, head_spacing_mm=4.0)


def numbered(shape: tuple[int, int, int]) -> Sample:
    """Return a sample in which every voxel has a number of its own in all channels, and one voxel is lesion."""
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    fractions = torch.zeros((3, *shape))
    fractions[:, 3, 17, 5] = 1
    return Sample(values.expand(3, *shape).clone() + 1, fractions)


def test_crops_are_parts_of_the_sample_flipped_or_not() -> None:
    sample = numbered((24, 32, 16))
    flipped, with_lesion = 0, 0
    for seed in range(60):
        piece = crop(sample, (16, 16, 8), np.random.default_rng(seed))
        assert piece.channels.shape == (3, 16, 16, 8)
        step = float(piece.channels[0, 0, 0, 1] - piece.channels[0, 0, 0, 0])
        assert abs(step) == 1
        flipped += step < 0
        with_lesion += bool(piece.fractions.any())
        # The mask moves with the voxels: the lesion keeps its number.
        for value in piece.channels[0][piece.fractions[0] == 1]:
            assert value == sample.channels[0, 3, 17, 5]
    assert 15 < flipped < 45
    assert with_lesion >= 40


def test_a_crop_larger_than_the_sample_is_zero_padded() -> None:
    sample = numbered((24, 32, 16))
    piece = crop(sample, (32, 40, 24), np.random.default_rng(0))
    assert piece.channels.shape == (3, 32, 40, 24)
    assert np.count_nonzero(piece.channels[0]) == 24 * 32 * 16
    assert piece.fractions.sum() == 3


def test_the_stream_follows_from_the_seed() -> None:
    first, again, other = (list(itertools.islice(HeadSamples(seed, TOY), 3)) for seed in (7, 7, 8))
    for (channels, masks), (channels_again, masks_again) in zip(first, again, strict=True):
        assert torch.equal(channels, channels_again)
        assert torch.equal(masks, masks_again)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))  # unlike shapes are unlike


def test_the_share_of_whole_heads_is_as_set() -> None:
    # A toy head has about 30 x 36 x 28 voxels of 6 mm; crops of 16 cubed are far smaller than it.
    sizes = {}
    for whole in (0.0, 1.0):
        stream = HeadSamples(2, dataclasses.replace(TOY, whole=whole))
        sizes[whole] = [channels[0, 0].numel() for channels, _ in itertools.islice(stream, 5)]
    assert max(sizes[0.0]) < 2 * 16**3
    assert min(sizes[1.0]) > 4 * 16**3


def test_batches_fit_the_network() -> None:
    for channels, masks in itertools.islice(HeadSamples(1, TOY), 6):
        assert channels.shape[:2] == (TOY.batch, len(CHANNELS))
        assert masks.shape == channels.shape
        assert all(edge % TOY.stride == 0 for edge in channels.shape[2:])
        assert 0 <= masks.min() <= masks.max() <= 1
