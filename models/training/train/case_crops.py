"""Crops of prepared cases: which ones make an epoch, where they are cut, and how they are varied.

A crop follows from the seed, the epoch and its position in the epoch alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from models.labels import Role
from models.training.dataset.dataset import Case
from models.training.synthetic.artefacts import lower_resolution
from models.training.train.batches import ALONE, Batch, ProcessRank
from models.training.train.channel_dropout import as_network_input, keep_channels
from models.training.train.prepared_cases import Prepared, PreparedCases, View
from models.training.train.sample_workers import worker_options
from models.training.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class CropIndex:
    """Identifies one crop of a run."""

    epoch: int
    position: int
    """Which crop of the epoch, over all processes."""
    case: int
    """Index into the training cases."""


def epoch_crops(epoch: int, weights: Sequence[float], settings: TrainSettings) -> list[CropIndex]:
    """Return all crops of an epoch: `crops_per_case` rounds over the cases, each in an order of its own.

    `weights` are those of the cases: one with weight 2 is in a round twice, one with 0.5 in every other.
    """
    generator = np.random.default_rng([settings.seed, 1, epoch])
    order = np.concatenate([_draw_round(weights, generator) for _ in range(settings.crops_per_case)])
    return [CropIndex(epoch, position, int(case)) for position, case in enumerate(order)]


def round_size(weights: Sequence[float]) -> int:
    """Return the crops of a round over cases with these weights."""
    return max(1, round(sum(weights)))


def _draw_round(weights: Sequence[float], generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw the cases of a round, each as often as its weight says: rounded down or up, at random."""
    order = generator.permutation(len(weights))
    if all(weight == 1 for weight in weights):
        return order
    size, reached = round_size(weights), np.cumsum(np.asarray(weights, float)[order])
    drawn = order[np.searchsorted(reached * (size / reached[-1]), np.arange(size) + 0.5)]
    return generator.permutation(drawn)


class CaseCrops(torch.utils.data.Dataset[Batch]):
    """Crops by index. It holds no state, so that every process makes the same crop."""

    def __init__(
        self, cases: tuple[Case, ...], prepared: PreparedCases, view: View, settings: TrainSettings, stride: int
    ) -> None:
        """Whole heads are padded to multiples of `stride` voxels."""
        self._cases = cases
        self._stride = stride
        self._prepared = prepared
        self._view = view
        self._settings = settings

    def __getitem__(self, index: CropIndex) -> Batch:
        settings, roles = self._settings, self._view.channels
        prepared = self._prepared(self._cases[index.case])
        generator = np.random.default_rng([settings.seed, 2, index.epoch, index.position])
        channels, masks = _cut(prepared, settings, self._stride, generator)
        if settings.flip and generator.random() < 0.5:
            channels, masks = channels.flip(3), masks.flip(3)
        channels = _vary(channels, roles, settings.intensity, generator)
        # A stream of its own: crops are the same with other settings of these two.
        generator = np.random.default_rng([settings.seed, 3, index.epoch, index.position])
        if generator.random() < settings.low_resolution:
            channels = lower_resolution(channels, generator)
        # Zeros stand for absent channels; scaling has shifted them.
        present = keep_channels(prepared.present, settings.drop_channels, generator)
        channels = as_network_input(channels, present, self._view.presence)
        return Batch(channels, masks.contiguous(), prepared.known)


def _cut(
    prepared: Prepared, settings: TrainSettings, stride: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a cubic crop, zero-padded if the head is smaller; take the whole head if `patch` is 0."""
    size = prepared.channels.shape[1:]
    if settings.patch == 0:
        missing = [-have % stride for have in size]
        return _pad(prepared.channels, missing), _pad(prepared.masks, missing).float()
    centre = _draw_label_voxel(prepared.masks, generator) if generator.random() < settings.foreground else None
    window: list[slice] = [slice(None)]
    for axis in range(3):
        last_start = max(0, size[axis] - settings.patch)
        low, high = 0, last_start
        if centre is not None:  # the voxel may lie anywhere in the crop but near its edge
            margin = settings.patch // 8
            low = min(last_start, max(0, centre[axis] - settings.patch + 1 + margin))
            high = max(low, min(last_start, centre[axis] - margin))
        start = int(generator.integers(low, high + 1))
        window.append(slice(start, start + settings.patch))
    channels, masks = prepared.channels[tuple(window)], prepared.masks[tuple(window)]
    missing = [settings.patch - have for have in channels.shape[1:]]
    return _pad(channels, missing), _pad(masks, missing).float()


def _pad(tensor: Tensor, missing: list[int]) -> Tensor:
    """Add zeros behind the last slice, row and column, as `pipeline.segment` does."""
    return functional.pad(tensor, [0, missing[2], 0, missing[1], 0, missing[0]])


def _draw_label_voxel(masks: Tensor, generator: np.random.Generator) -> tuple[int, int, int] | None:
    """Draw a voxel of one of the labels, all labels with equal chance; None if there is none."""
    present = torch.nonzero(masks.flatten(1).any(dim=1)).flatten()
    if present.numel() == 0:
        return None
    voxels = torch.nonzero(masks[int(present[int(generator.integers(present.numel()))])])
    k, i, j = voxels[int(generator.integers(len(voxels)))].tolist()
    return k, i, j


def _vary(channels: Tensor, roles: tuple[Role, ...], limit: float, generator: np.random.Generator) -> Tensor:
    """Scale and shift each weighted image a little. The number of random draws does not depend on the roles."""
    drawn = generator.uniform(-limit, limit, size=(len(roles), 2)).astype(np.float32)
    drawn[[role is Role.ADC for role in roles]] = 0
    scale, shift = torch.from_numpy(drawn).unbind(1)
    return (channels * (1 + scale[:, None, None, None]) + shift[:, None, None, None]).contiguous()


def steps_per_epoch(weights: Sequence[float], settings: TrainSettings, processes: int) -> int:
    """Return the optimiser steps of an epoch over cases with these weights, the last one filled up."""
    return -(-round_size(weights) * settings.crops_per_case // (settings.batch * processes))


class _BatchSampler:
    """The batches that torch's DataLoader is to load in its next pass."""

    def __init__(self) -> None:
        self.batches: list[list[CropIndex]] = []

    def __iter__(self) -> Iterator[list[CropIndex]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class CropBatches:
    """The batches of crops of one process, by epoch (see `batches.EpochBatches`)."""

    def __init__(
        self, crops: CaseCrops, weights: Sequence[float], settings: TrainSettings, rank: ProcessRank = ALONE
    ) -> None:
        self._weights = weights
        self._settings = settings
        self._rank = rank
        self._sampler = _BatchSampler()
        self._loader: DataLoader[Batch] = DataLoader(
            crops, batch_sampler=self._sampler, **worker_options(settings.workers)
        )

    def __call__(self, epoch: int, step: int) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `step` on."""
        self._sampler.batches = self._indices(epoch)[step:]
        yield from self._loader

    def _indices(self, epoch: int) -> list[list[CropIndex]]:
        crops = epoch_crops(epoch, self._weights, self._settings)
        batch, processes = self._settings.batch, self._rank.processes
        # A last step that is not full is filled from the epoch's beginning; each crop is a new one.
        whole = steps_per_epoch(self._weights, self._settings, processes) * batch * processes
        crops += [CropIndex(epoch, len(crops) + n, crops[n % len(crops)].case) for n in range(whole - len(crops))]
        first = self._rank.number * batch
        return [crops[step + first : step + first + batch] for step in range(0, whole, batch * processes)]
