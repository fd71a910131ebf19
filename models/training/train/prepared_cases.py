"""Prepare the cases of a data set for a network: resample, normalise as a whole, cut to the head, and cache."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.labels import Role
from models.package import NORMALISATION
from models.training.dataset.dataset import Case
from models.training.dataset.manifest import DatasetBroken
from models.training.train.settings import Cache
from pipeline.normalise import head_mask, normalise
from pipeline.reference import reference_on_one_grid
from pipeline.resample import resample
from pipeline.volume import Geometry

_MARGIN_MM = 5.0
"""Kept around the head, as `pipeline.align` does."""
_CACHE_VERSION = 2
"""Part of the cache's keys; raise it when the cached content changes."""


@dataclass(frozen=True, slots=True)
class View:
    """The channels, labels and grid of the cases that a network is trained on."""

    channels: tuple[Role, ...]
    labels: tuple[str, ...]
    spacing_mm: float
    presence: bool = False
    """Whether the network gets a presence plane for each channel, see `pipeline.presence`."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One case on the network's grid, cut to the head."""

    channels: Tensor
    """(channels, slices, rows, columns) float32, normalised; 0 where the case does not have the channel."""
    masks: Tensor
    """(labels, slices, rows, columns) bool; empty where the case does not have the label."""
    grid: Geometry
    present: Tensor
    """(channels), bool: which channels the case has."""
    known: Tensor
    """(labels), bool: which labels the case has, empty or not."""


PreparedCases = Callable[[Case], Prepared]


def prepare(case: Case, view: View) -> Prepared:
    """Read a case, resample it if the network's voxels have another size, normalise it, and cut it to the head.

    Channels and labels of the view that the case does not have become 0 and are marked as absent. Raises DatasetBroken
    if the case has none of the channels or none of the labels, or a channel has no value in the head.
    """
    channels = tuple(role for role in view.channels if role in case.channels)
    labels = tuple(label for label in view.labels if label in case.labels)
    if not channels or not labels:
        raise DatasetBroken(f"Case {case.case_id} has no channel or no label of the network's. Leave the case out.")
    reference = reference_on_one_grid(case.channels)
    wanted = channels if reference in channels else (*channels, reference)
    volumes = case.volumes(wanted)
    source = volumes[reference].geometry
    raw = torch.from_numpy(np.stack([volumes[role].pixels for role in wanted]))
    masks = torch.from_numpy(case.masks(labels))
    grid = source
    if not np.allclose(source.spacing_mm, view.spacing_mm, rtol=1e-3):
        grid = _same_extent(source, view.spacing_mm)
        raw = torch.stack([resample(channel[None], source, grid)[0] for channel in raw])
        masks = resample(masks.float(), source, grid) >= 0.5
    head = head_mask(raw[wanted.index(reference)])
    for role, channel in zip(wanted, raw, strict=True):
        if not torch.isfinite(channel[head]).any():
            raise DatasetBroken(
                f"Case {case.case_id}: channel {role} has no value inside the head. "
                "Run `glionode dataset check`, and leave the case out."
            )
    box = _head_box(head, grid)
    window = (slice(None), *box)
    normalised = normalise(raw, wanted)[: len(channels)]
    return Prepared(
        channels=_spread(normalised[window], channels, view.channels),
        masks=_spread(masks[window], labels, view.labels),
        grid=grid.cropped(box),
        present=torch.tensor([role in channels for role in view.channels]),
        known=torch.tensor([label in labels for label in view.labels]),
    )


def _spread(found: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Return (wanted, slices, rows, columns) with what is found at its place, and 0 for what is not."""
    spread = found.new_zeros((len(wanted), *found.shape[1:]))
    spread[[wanted.index(name) for name in names]] = found
    return spread


def _same_extent(source: Geometry, spacing_mm: float) -> Geometry:
    """Return a grid of cubic voxels of `spacing_mm` with the axes and field of view of `source`."""
    steps = source.affine[:3, :3] / np.array(source.spacing_mm) * spacing_mm
    shape = np.maximum(1, np.ceil(np.array(source.shape) * np.array(source.spacing_mm) / spacing_mm - 1e-6)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = np.array(source.centre_mm) - steps @ ((shape - 1) / 2)
    return Geometry.from_affine(affine, (int(shape[0]), int(shape[1]), int(shape[2])), source.frame_of_reference_uid)


def _head_box(head: Tensor, grid: Geometry) -> tuple[slice, slice, slice]:
    box = []
    for axis in range(3):
        counts = head.sum(dim=[other for other in range(3) if other != axis])
        planes = torch.nonzero(counts > 0.01 * counts.max()).flatten()
        if planes.numel() == 0:
            return slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2])
        margin = round(_MARGIN_MM / grid.spacing_mm[axis])
        box.append(slice(max(0, int(planes[0]) - margin), min(grid.shape[axis], int(planes[-1]) + 1 + margin)))
    return box[0], box[1], box[2]


def prepared_cases(kind: Cache, view: View, folder: Path) -> PreparedCases:
    """Return `prepare` with a cache: none, in the memory of this process, or below `folder`."""
    if kind is Cache.DISK:
        return _OnDisk(view, folder)
    direct = partial(prepare, view=view)
    return cache(direct) if kind is Cache.RAM else direct


@dataclass(frozen=True)
class _OnDisk:
    """Keeps a folder for each case, named by a hash of all that decides its content, with memory-mapped .npy files."""

    view: View
    folder: Path

    def __call__(self, case: Case) -> Prepared:
        kept = self.folder / self._key(case)
        if not kept.is_dir():
            self._store(prepare(case, self.view), kept)
        # "c": copy on write. torch needs writable arrays, and the file must not change.
        channels, masks = (np.load(kept / f"{name}.npy", mmap_mode="c") for name in ("channels", "masks"))
        grid = Geometry.from_affine(np.load(kept / "affine.npy"), channels.shape[1:], "")
        present, known = (torch.from_numpy(np.load(kept / f"{name}.npy")) for name in ("present", "known"))
        return Prepared(torch.from_numpy(channels), torch.from_numpy(masks), grid, present, known)

    def _key(self, case: Case) -> str:
        parts = (_CACHE_VERSION, NORMALISATION, case.entry.fingerprint, *self.view.channels, "", *self.view.labels)
        text = "\n".join(map(str, (*parts, self.view.spacing_mm)))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _store(self, prepared: Prepared, kept: Path) -> None:
        # Several processes may prepare the same case; the first to rename its folder wins.
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
        try:
            np.save(staging / "channels.npy", prepared.channels.numpy())
            np.save(staging / "masks.npy", prepared.masks.numpy())
            np.save(staging / "affine.npy", prepared.grid.affine)
            np.save(staging / "present.npy", prepared.present.numpy())
            np.save(staging / "known.npy", prepared.known.numpy())
            try:
                os.rename(staging, kept)  # noqa: PTH104  (its errors are told apart below)
            except OSError:
                if not kept.is_dir():
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
