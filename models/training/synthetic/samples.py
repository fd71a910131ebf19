"""An endless stream of training batches: crops of random scans of synthetic heads (see `augment`).

Generating a head is slow and scanning it is fast. So a pool of heads grows slowly, and each head is scanned many times.
A scan is normalised as a whole volume, as at inference, before it is cropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset, get_worker_info

from models.training.synthetic.augment import Sample, augment
from models.training.synthetic.families import LEARNED_FROM, Family
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant

FIRST_HELD_OUT_SEED = 1_000_000
"""Seeds from this one on are never used for training."""

_VARIANTS = {
    Variant.UNIFOCAL: 0.26,
    Variant.MULTIFOCAL: 0.18,
    Variant.SMALL: 0.18,
    Variant.NON_ENHANCING: 0.14,
    Variant.LESION_FREE: 0.08,
    Variant.RESECTED: 0.16,
}
_FAMILIES = dict.fromkeys(LEARNED_FROM, 1 / len(LEARNED_FROM))
_POOL_CAPACITY = 240
_RECENT_SAMPLES = 12
_NEW_HEAD_EVERY = 7
_BATCHES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How to sample and crop training batches."""

    spacing_mm: float = 1.0
    """Edge of the network's voxels."""
    patch: int = 160
    """Mean edge of a crop in voxels. Edges vary by a third, so that the network sees many fields of view."""
    batch: int = 1
    """Crops per step."""
    whole: float = 0.8
    """Share of the steps with whole heads, as at inference. The statistics of group norm depend on the field of view: a
    network trained on crops alone finds lesions all over a whole head."""
    stride: int = 16
    """Crop edges are multiples of this."""
    head_spacing_mm: float = 1.25
    """Edge of the voxels of the generated heads; finer ones cost twice as much and are averaged away."""


def crop(sample: Sample, shape: tuple[int, int, int], generator: np.random.Generator) -> Sample:
    """Return a random crop, zero-padded if the sample is smaller, and flipped left to right half of the time.

    Two of three crops contain a random voxel of a lesion, if there is one, at a random position.
    """
    size = sample.channels.shape[1:]
    voxels = torch.nonzero((sample.fractions >= 0.5).any(0)) if generator.random() < 0.67 else torch.zeros((0, 3))
    start = []
    for axis in range(3):
        room = max(0, size[axis] - shape[axis])
        low, high = 0, room
        if len(voxels):
            at = int(voxels[int(generator.integers(len(voxels))), axis])
            low, high = min(room, max(0, at - shape[axis] + 8)), min(room, max(0, at - 8))
        start.append(int(generator.integers(low, max(low, high) + 1)))
    window = (slice(None), *(slice(begin, begin + length) for begin, length in zip(start, shape, strict=True)))
    channels, fractions = sample.channels[window], sample.fractions[window]
    missing = [length - have for length, have in zip(shape, channels.shape[1:], strict=True)]
    pad = [0, missing[2], 0, missing[1], 0, missing[0]]
    channels, fractions = functional.pad(channels, pad), functional.pad(fractions, pad)
    if generator.random() < 0.5:
        channels, fractions = channels.flip(3), fractions.flip(3)
    return Sample(channels.contiguous(), fractions.contiguous())


class HeadSamples(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of (batch, CHANNELS, slices, rows, columns) and label fractions (batch, labels, ...), float32.

    The stream is determined by the seed and the number of the worker. Crops come from the latest scans; the first batch
    after a new scan contains it.
    """

    def __init__(self, seed: int, settings: SampleSettings) -> None:
        self._seed = seed
        self._settings = settings

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        if worker:
            torch.set_num_threads(1)
        generator = np.random.default_rng([self._seed, number])
        pool: list[SyntheticHead] = []
        recent: list[Sample] = []
        step = 0
        while True:
            if step % _NEW_HEAD_EVERY == 0 or len(pool) < 3:
                head = synthesise(
                    seed=int(generator.integers(FIRST_HELD_OUT_SEED)),
                    variant=Variant(generator.choice(list(_VARIANTS), p=list(_VARIANTS.values()))),
                    spacing_mm=self._settings.head_spacing_mm,
                    family=Family(generator.choice(list(_FAMILIES), p=list(_FAMILIES.values()))),
                )
                pool = [*pool[-_POOL_CAPACITY + 1 :], head]
            else:
                head = pool[int(generator.integers(len(pool)))]
            recent = [*recent[-_RECENT_SAMPLES + 1 :], augment(head, generator, self._settings.spacing_mm)]
            step += 1
            yield self._batch(recent, generator)
            for _ in range(_BATCHES_PER_SAMPLE - 1):
                yield self._batch([*recent[:-1], recent[int(generator.integers(len(recent)))]], generator)

    def _batch(self, recent: list[Sample], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        settings = self._settings
        chosen = [recent[-1], *(recent[int(generator.integers(len(recent)))] for _ in range(settings.batch - 1))]
        shape = self._draw_shape(chosen, generator)
        crops = [crop(sample, shape, generator) for sample in chosen]
        return torch.stack([c.channels for c in crops]), torch.stack([c.fractions for c in crops])

    def _draw_shape(self, chosen: list[Sample], generator: np.random.Generator) -> tuple[int, int, int]:
        settings = self._settings
        if generator.random() < settings.whole:
            largest = np.max([sample.fractions.shape[1:] for sample in chosen], axis=0)
            edges = -(-largest // settings.stride)
            return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
        edges = settings.patch * generator.uniform(0.75, 1.3, size=3)
        # Equal volumes, so that steps take equal time.
        edges = np.maximum(1, np.round(edges * (settings.patch / np.prod(edges) ** (1 / 3)) / settings.stride))
        return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
