"""Measure how well a rigid motion lays one series on another: mutual information and overlap of the heads.

Both are measured at all voxels of the moving series that the fixed one covers, air included. Where only the inside of
the head counts, as registrations are often masked, mutual information can rise when the edge of a brain is moved across
fluid. The border between head and air, which holds most of the information, does not count against it then.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from pipeline.head import filled_head
from pipeline.resample import sample_at
from pipeline.volume import Geometry, Volume

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

    def __init__(self, fixed: Coarse, moving: Coarse) -> None:
        """Keep the voxels of `moving` around its head, and the fixed series, smoothed a little.

        Without the smoothing a motion by half a voxel would gain by the interpolation alone, where both series are on
        one grid (Pluim et al. 2000, CVIU 77:211).
        """
        box = _box_around(moving)
        self._geometry = moving.geometry.cropped(box)
        self._bins, self._head = moving.bins[box].long(), moving.head[box]
        filtered = fixed.bins.numpy()
        for axis in range(3):
            filtered = ndimage.convolve1d(filtered, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
        self._fixed = torch.stack([torch.from_numpy(filtered), fixed.head.float(), torch.ones_like(fixed.bins)])
        self._fixed_geometry = fixed.geometry
        self.fixed_centre_mm = fixed.head_centre_mm
        self.moving_centre_mm = moving.head_centre_mm
        self._head_voxels = max(1, int(self._head.sum()))

    def at(self, to_series: NDArray[np.float64]) -> Likeness:
        """Return the likeness under a motion, 4 x 4, from the world of the fixed series to that of the moving one."""
        values, head, inside = sample_at(self._fixed, self._fixed_geometry, self._geometry, _inverse(to_series))
        common = inside > 0.5
        if not common.any():
            return Likeness(0.0, 0.0, 0.0)
        fixed = (values[common] / inside[common]).clamp(0, _BINS - 1e-3).long()
        counts = torch.bincount(fixed * _BINS + self._bins[common], minlength=_BINS**2).reshape(_BINS, _BINS)
        here, there = head[common] > 0.5, self._head[common]
        both = int((here & there).sum())
        smaller = min(int(here.sum()), int(there.sum()))
        seen = int(there.sum()) / self._head_voxels
        return Likeness(_mutual_information(counts.double()), both / smaller if smaller else 0.0, seen)

    def distinctness(self, to_series: NDArray[np.float64]) -> float:
        """Return the share of the mutual information that a shift by 4 mm loses, on average over six directions.

        At the place of the same head every structure fits, and a small shift loses much. Two heads of different people
        agree in their outline alone, which a small shift hardly changes.
        """
        here = self.at(to_series).information
        if here <= 0:
            return 0.0
        shifts = [_shift(axis, length) for axis in range(3) for length in (_SHIFT_MM, -_SHIFT_MM)]
        beside = [self.at(shift @ to_series).information for shift in shifts]
        return 1 - float(np.mean(beside)) / here


def _inverse(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.inv(motion).astype(np.float64)


def _shift(axis: int, length_mm: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[axis, 3] = length_mm
    return matrix


def _mutual_information(counts: Tensor) -> float:
    joint = counts / counts.sum()
    return float(_entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint.flatten()))


def _entropy(shares: Tensor) -> Tensor:
    present = shares[shares > 0]
    return -(present * present.log()).sum()


def _box_around(moving: Coarse) -> tuple[slice, slice, slice]:
    """Return the part of a series around its head, with _MARGIN_MM of air; all of it without a head."""
    index = torch.nonzero(moving.head)
    low, high = (index.amin(0), index.amax(0)) if len(index) else (torch.zeros(3), torch.tensor(moving.head.shape) - 1)
    sides = []
    for axis, spacing in enumerate(moving.geometry.spacing_mm):
        margin = int(np.ceil(_MARGIN_MM / spacing))
        sides.append(slice(max(0, int(low[axis]) - margin), min(moving.head.shape[axis], int(high[axis]) + margin + 1)))
    return sides[0], sides[1], sides[2]
