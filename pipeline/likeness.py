"""Measure how well a rigid motion lays one series on another: mutual information and overlap of the heads.

Both are measured at all voxels of the moving series that the fixed one covers, air included. Where only the inside of
the head counts, as registrations are often masked, mutual information can rise when the edge of a brain is moved across
fluid. The border between head and air, which holds most of the information, does not count against it then.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from pipeline.finite import all_finite
from pipeline.head import filled_head
from pipeline.resample import sample_at
from pipeline.volume import Geometry, Volume

_CPU = torch.device("cpu")
_GPU_BATCH = 4_000_000
"""Voxels that are sampled at once on a GPU."""
_BINS = 32
_ADC_RANGE = (0.0, 3500.0)
_SHIFT_MM = 4.0
_MARGIN_MM = 20.0
"""Air around the moving head that counts."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How well two series agree under one motion."""

    information: float
    """Mutual information of the two series, nats, with the air around the head."""
    overlap: float
    """Share of the smaller of the two heads, within the common field of view, that lies in the other."""
    seen: float
    """Share of the moving series' head that lies in the field of view of the fixed one."""


@dataclass(frozen=True, slots=True)
class Coarse:
    """A series averaged to voxels of a few millimetres."""

    voxels: Tensor
    """(slices, rows, columns) float32; NaN where less than half of a voxel has a value."""
    bins: Tensor
    """(slices, rows, columns), 0 to 32: brightness for the joint histogram; missing values are 0, as air is."""
    head: Tensor
    """(slices, rows, columns), bool."""
    geometry: Geometry

    @property
    def head_centre_mm(self) -> NDArray[np.float64]:
        """Centre of mass of the head in world coordinates; that of the grid where there is no head."""
        index = torch.nonzero(self.head).double().mean(0).numpy() if self.head.any() else None
        if index is None:
            return np.array(self.geometry.centre_mm)
        centre: NDArray[np.float64] = (self.geometry.affine @ np.array([*index, 1.0]))[:3]
        return centre


def coarse(volume: Volume, role: Role, edge_mm: float) -> Coarse:
    """Average a series to voxels of about `edge_mm`; thicker slices stay as they are."""
    factors = [
        min(size, max(1, round(edge_mm / spacing)))
        for size, spacing in zip(volume.geometry.shape, volume.geometry.spacing_mm, strict=True)
    ]
    voxels = torch.from_numpy(volume.pixels)[None, None].float()
    if all_finite(voxels):
        averaged = functional.avg_pool3d(voxels, factors)[0, 0]
    else:
        present = functional.avg_pool3d(torch.isfinite(voxels).float(), factors)
        mean = functional.avg_pool3d(torch.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0), factors)
        averaged = torch.where(present >= 0.5, mean / present.clamp(min=0.5), torch.nan)[0, 0]
    affine = volume.geometry.affine
    affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    affine[:3, :3] *= np.array(factors)
    shape = (averaged.shape[0], averaged.shape[1], averaged.shape[2])
    geometry = Geometry.from_affine(affine, shape, volume.geometry.frame_of_reference_uid)
    return Coarse(averaged, _binned(averaged, role), filled_head(averaged, role), geometry)


def _binned(voxels: Tensor, role: Role) -> Tensor:
    filled = torch.nan_to_num(voxels, nan=0.0)
    low, high = _ADC_RANGE if role is Role.ADC else (float(filled.min()), _bright(filled))
    return ((filled - low) / max(high - low, 1e-6) * _BINS).clamp(0, _BINS - 1e-3)


def _bright(voxels: Tensor) -> float:
    return float(np.quantile(voxels.numpy(), 0.995))


class Comparison:
    """Two series whose likeness is measured under many motions."""

    def __init__(self, fixed: Coarse, moving: Coarse, device: torch.device = _CPU) -> None:
        """Keep the voxels of `moving` around its head, and the fixed series, smoothed a little, on `device`.

        Without the smoothing a motion by half a voxel would gain by the interpolation alone, where both series are on
        one grid (Pluim et al. 2000, CVIU 77:211).
        """
        box = _box_around(moving)
        self._geometry = moving.geometry.cropped(box)
        self._bins, self._head = moving.bins[box].to(device).long(), moving.head[box].to(device)
        filtered = fixed.bins.numpy()
        for axis in range(3):
            filtered = ndimage.convolve1d(filtered, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
        stack = torch.stack([torch.from_numpy(filtered), fixed.head.float(), torch.ones_like(fixed.bins)])
        self._fixed = stack.to(device)
        self._fixed_geometry = fixed.geometry
        self.fixed_centre_mm = fixed.head_centre_mm
        self.moving_centre_mm = moving.head_centre_mm
        self._head_voxels = max(1, int(self._head.sum()))
        self._at_once = 1 if device.type == "cpu" else max(1, _GPU_BATCH // self._bins.numel())

    def at(self, to_series: NDArray[np.float64]) -> Likeness:
        """Return the likeness under a motion, 4 x 4, from the world of the fixed series to that of the moving one."""
        (likeness,) = self.of_each(to_series[None])
        return likeness

    def of_each(self, to_series: NDArray[np.float64]) -> Iterator[Likeness]:
        """Yield the likeness under each of several motions, (motions, 4, 4).

        They are measured when they are asked for: on a GPU many at once, on a CPU each on one core alone, as other
        series are measured at the same time.
        """
        for first in range(0, len(to_series), self._at_once):
            yield from self._measured(to_series[first : first + self._at_once])

    def _measured(self, to_series: NDArray[np.float64]) -> list[Likeness]:
        to_fixed = np.linalg.inv(to_series).astype(np.float64)
        sampled = sample_at(self._fixed, self._fixed_geometry, self._geometry, to_fixed)
        values, head, inside = sampled.flatten(2).unbind(1)  # each (motions, voxels)
        common = inside > 0.5
        fixed = (values / inside.clamp(min=0.5)).clamp(0, _BINS - 1e-3).long()
        first = torch.arange(len(to_series), device=fixed.device)[:, None] * _BINS**2
        nowhere = len(to_series) * _BINS**2
        counter = torch.where(common, first + fixed * _BINS + self._bins.flatten(), nowhere)
        counts = torch.bincount(counter.flatten(), minlength=nowhere + 1)[:-1].reshape(-1, _BINS, _BINS)
        here, there = (head > 0.5) & common, self._head.flatten() & common
        heads = torch.stack([here.sum(1), there.sum(1), (here & there).sum(1)], 1).tolist()
        return [
            Likeness(information, both / min(here, there) if here and there else 0.0, there / self._head_voxels)
            for information, (here, there, both) in zip(_mutual_information(counts).tolist(), heads, strict=True)
        ]

    def distinctness(self, to_series: NDArray[np.float64]) -> float:
        """Return the share of the mutual information that a shift by 4 mm loses, on average over six directions.

        At the place of the same head every structure fits, and a small shift loses much. Two heads of different people
        agree in their outline alone, which a small shift hardly changes.
        """
        shifts = [_shift(axis, length) for axis in range(3) for length in (_SHIFT_MM, -_SHIFT_MM)]
        here, *beside = (each.information for each in self.of_each(np.stack([np.eye(4), *shifts]) @ to_series))
        return 1 - float(np.mean(beside)) / here if here > 0 else 0.0


def _shift(axis: int, length_mm: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[axis, 3] = length_mm
    return matrix


def _mutual_information(counts: Tensor) -> Tensor:
    """Return the mutual information, nats, of joint histograms (motions, bins, bins); 0 for an empty one."""
    joint = counts.double() / counts.sum((1, 2), keepdim=True).clamp(min=1)
    return _entropy(joint.sum(1)) + _entropy(joint.sum(2)) - _entropy(joint.flatten(1))


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy


def _box_around(moving: Coarse) -> tuple[slice, slice, slice]:
    """Return the part of a series around its head, with _MARGIN_MM of air; all of it without a head."""
    index = torch.nonzero(moving.head)
    low, high = (index.amin(0), index.amax(0)) if len(index) else (torch.zeros(3), torch.tensor(moving.head.shape) - 1)
    sides = []
    for axis, spacing in enumerate(moving.geometry.spacing_mm):
        margin = int(np.ceil(_MARGIN_MM / spacing))
        sides.append(slice(max(0, int(low[axis]) - margin), min(moving.head.shape[axis], int(high[axis]) + margin + 1)))
    return sides[0], sides[1], sides[2]
