"""Crops of prepared cases: which, where, and how they are varied. A crop follows from seed, epoch and place alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from models.training.dataset.dataset import Case
from models.training.train.prepared_cases import Prepared, PreparedCases, View
from models.training.train.settings import TrainSettings

Batch = tuple[Tensor, Tensor]
"""(batch, channels, slices, rows, columns) and (batch, labels, slices, rows, columns) of 0 and 1, both float32."""


@dataclass(frozen=True, slots=True)
class Place:
    """One crop of a run."""

    epoch: int
    position: int
    """Which crop of the epoch, over all processes."""
    case: int
    """Index into the training cases."""


def epoch_places(epoch: int, cases: int, settings: TrainSettings) -> list[Place]:
    """All crops of an epoch, `crops_per_case` rounds over the cases, each in an order of its own."""
    generator = np.random.default_rng([settings.seed, 1, epoch])
    order = np.concatenate([generator.permutation(cases) for _ in range(settings.crops_per_case)])
    return [Place(epoch, position, int(case)) for position, case in enumerate(order)]


class CaseCrops(torch.utils.data.Dataset[Batch]):
    """Crops by place; holds no state, so that any process makes the same crop."""

    def __init__(
        self, cases: tuple[Case, ...], prepared: PreparedCases, view: View, settings: TrainSettings, stride: int
    ) -> None:
        """`stride` is what the sizes of whole heads have to be multiples of."""
        self._cases = cases
        self._stride = stride
        self._prepared = prepared
        self._view = view
        self._settings = settings

    def __getitem__(self, place: Place) -> Batch:
        prepared = self._prepared(self._cases[place.case])
        generator = np.random.default_rng([self._settings.seed, 2, place.epoch, place.position])
        channels, masks = _cut(prepared, self._settings, self._stride, generator)
        if self._settings.flip and generator.random() < 0.5:
            channels, masks = channels.flip(3), masks.flip(3)
        return _vary(channels, self._view.channels, self._settings.intensity, generator), masks.contiguous()


def _cut(prepared: Prepared, settings: TrainSettings, stride: int, generator: np.random.Generator) -> Batch:
    """A cubic crop, zero-padded where the head is smaller; the whole head where `patch` is 0."""
    size = prepared.channels.shape[1:]
    if settings.patch == 0:
        missing = [-have % stride for have in size]
        return _pad(prepared.channels, missing), _pad(prepared.masks, missing).float()
    centre = _some_voxel(prepared.masks, generator) if generator.random() < settings.foreground else None
    window: list[slice] = [slice(None)]
    for axis in range(3):
        room = max(0, size[axis] - settings.patch)
        low, high = 0, room
        if centre is not None:  # anywhere in the crop but at its very edge
            margin = settings.patch // 8
            low = min(room, max(0, centre[axis] - settings.patch + 1 + margin))
            high = max(low, min(room, centre[axis] - margin))
        start = int(generator.integers(low, high + 1))
        window.append(slice(start, start + settings.patch))
    channels, masks = prepared.channels[tuple(window)], prepared.masks[tuple(window)]
    missing = [settings.patch - have for have in channels.shape[1:]]
    return _pad(channels, missing), _pad(masks, missing).float()


def _pad(tensor: Tensor, missing: list[int]) -> Tensor:
    """Zeros behind the last slice, row and column, as `pipeline.segment` does."""
    return functional.pad(tensor, [0, missing[2], 0, missing[1], 0, missing[0]])


def _some_voxel(masks: Tensor, generator: np.random.Generator) -> tuple[int, int, int] | None:
    """A voxel of one of the labels, each label as likely as the next; None without any."""
    there = torch.nonzero(masks.flatten(1).any(dim=1)).flatten()
    if there.numel() == 0:
        return None
    places = torch.nonzero(masks[int(there[int(generator.integers(there.numel()))])])
    k, i, j = places[int(generator.integers(len(places)))].tolist()
    return k, i, j


def _vary(channels: Tensor, roles: tuple[Role, ...], most: float, generator: np.random.Generator) -> Tensor:
    """Scale and shift each weighted image a little; draws the same number of numbers whatever the roles."""
    drawn = generator.uniform(-most, most, size=(len(roles), 2)).astype(np.float32)
    drawn[[role is Role.ADC for role in roles]] = 0
    scale, shift = torch.from_numpy(drawn).unbind(1)
    return (channels * (1 + scale[:, None, None, None]) + shift[:, None, None, None]).contiguous()
