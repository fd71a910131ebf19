"""Endless training samples: crops of synthetic heads that are dressed ever anew (see `dressing`).

Painting a head is slow and dressing it is fast, so a pool of heads grows slowly and each is dressed many times. A
sample is normalised as a whole volume, as at inference, before it is cropped.
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
"""Heads of this seed and above are never trained on."""

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
_RECENT = 12
_NEW_HEAD_EVERY = 7
_BATCHES_PER_DRESSING = 2


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How training samples are cut."""

    spacing_mm: float = 1.0
    """Edge of the network's voxels."""
    patch: int = 160
    """Mean edge of a crop in voxels; edges vary by a third so that the network meets many fields of view."""
    batch: int = 1
    """Crops in a step."""
    whole: float = 0.8
    """Share of the steps that see whole heads, as inference does. Group norm's statistics are those of all that is in
    sight: a network that met crops alone finds lesions all over a whole head."""
    stride: int = 16
    """Crop edges are multiples of this."""
    head_spacing_mm: float = 1.25
    """Edge of the voxels that heads are painted on; finer ones cost twice as much and are averaged away."""


def crop(sample: Sample, shape: tuple[int, int, int], generator: np.random.Generator) -> Sample:
    """A crop, zero-padded where the sample is smaller, flipped left to right half of the time.

    Two of three crops hold a lesion's voxel (if there is a lesion), its place in the crop being random.
    """
    size = sample.channels.shape[1:]
    places = torch.nonzero((sample.shares >= 0.5).any(0)) if generator.random() < 0.67 else torch.zeros((0, 3))
    start = []
    for axis in range(3):
        room = max(0, size[axis] - shape[axis])
        low, high = 0, room
        if len(places):
            at = int(places[int(generator.integers(len(places))), axis])
            low, high = min(room, max(0, at - shape[axis] + 8)), min(room, max(0, at - 8))
        start.append(int(generator.integers(low, max(low, high) + 1)))
    window = (slice(None), *(slice(begin, begin + length) for begin, length in zip(start, shape, strict=True)))
    channels, shares = sample.channels[window], sample.shares[window]
    missing = [length - have for length, have in zip(shape, channels.shape[1:], strict=True)]
    pad = [0, missing[2], 0, missing[1], 0, missing[0]]
    channels, shares = functional.pad(channels, pad), functional.pad(shares, pad)
    if generator.random() < 0.5:
        channels, shares = channels.flip(3), shares.flip(3)
    return Sample(channels.contiguous(), shares.contiguous())


class HeadSamples(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches without end: (batch, CHANNELS, slices, rows, columns) and (batch, labels, ...) from 0 to 1, float32.

    The stream follows from the seed and the worker's number alone. Crops come from the few heads that were dressed
    last, the newest always among the first batch after it.
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
            recent = [*recent[-_RECENT + 1 :], augment(head, generator, self._settings.spacing_mm)]
            step += 1
            yield self._batch(recent, generator)
            for _ in range(_BATCHES_PER_DRESSING - 1):
                yield self._batch([*recent[:-1], recent[int(generator.integers(len(recent)))]], generator)

    def _batch(self, recent: list[Sample], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        settings = self._settings
        chosen = [recent[-1], *(recent[int(generator.integers(len(recent)))] for _ in range(settings.batch - 1))]
        shape = self._draw_shape(chosen, generator)
        crops = [crop(sample, shape, generator) for sample in chosen]
        return torch.stack([c.channels for c in crops]), torch.stack([c.shares for c in crops])

    def _draw_shape(self, chosen: list[Sample], generator: np.random.Generator) -> tuple[int, int, int]:
        settings = self._settings
        if generator.random() < settings.whole:
            largest = np.max([sample.shares.shape[1:] for sample in chosen], axis=0)
            edges = -(-largest // settings.stride)
            return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
        edges = settings.patch * generator.uniform(0.75, 1.3, size=3)
        # Equal volume whatever the shape: steps take equal time.
        edges = np.maximum(1, np.round(edges * (settings.patch / np.prod(edges) ** (1 / 3)) / settings.stride))
        return (int(edges[0]) * settings.stride, int(edges[1]) * settings.stride, int(edges[2]) * settings.stride)
