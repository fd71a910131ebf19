"""Register one series to T1CE rigidly, from a given start, by mutual information, in batches of candidate motions.

At each step motions near the present one are tried: each parameter a step up and down, and then, from these values,
Newton's step by parameter and steps along the gradient. The best is kept; where none is better, the step is halved.
Three levels go from smooth to sharp images, and from few points of T1CE, drawn from a seeded generator, to many. Mutual
information is that of Mattes et al. (2003, IEEE TMI 22:120), with linear windows.

The result is the same each time: voxels are counted in whole numbers, so that the order of a device's sums does not
matter, and on a CPU each operation is too small for PyTorch to divide it among threads. Runs on any device that it has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from pipeline.registration import FixedHead, Registered
from pipeline.volume import Geometry, Volume

_BINS = 32
_PARTS = 8
"""Parts of a bin of the moving series that are counted apart, before the windows weigh them."""
_SEED = 1
_RADIUS_MM = 80.0
"""A rotation by this many millimetres on the surface of the head is one radian."""
_LEAST_INSIDE = 0.25
"""Share of the points below which a motion is no candidate."""
_LEAST_RISE = 1e-5
_NEWTON = (0.5, 1.0)
_ALONG_GRADIENT = (1.0, 3.0)
_MOST_STEPS = 60
_CPU_BATCH = 30_000
"""Values in one operation on a CPU: PyTorch divides more than 32,768 among threads, which would wait for those of the
other series; and so many stay in the processor's cache."""
_GPU_BATCH = 4_000_000


@dataclass(frozen=True, slots=True)
class _Level:
    """A resolution of the search."""

    edge_mm: float
    """Both series are averaged to voxels of at most this edge."""
    points: int
    first_step_mm: float
    last_step_mm: float


_LEVELS = (_Level(6.0, 8_000, 4.0, 1.0), _Level(3.0, 20_000, 1.0, 0.25), _Level(1.5, 150_000, 0.4, 0.3))


@dataclass(frozen=True, slots=True)
class _Points:
    """Points of T1CE's head, at which the two series are compared."""

    world: Tensor
    """(3, points), mm, float32."""
    bins: Tensor
    """(points,), int32: their brightness."""

    def __getitem__(self, part: Tensor | slice) -> "_Points":
        return _Points(self.world[:, part].contiguous(), self.bins[part].contiguous())


class TorchEngine:
    """Registers series to one T1CE, on a device."""

    def __init__(self, head: FixedHead, device: torch.device) -> None:
        index = torch.nonzero(head.mask.cpu())
        generator = torch.Generator().manual_seed(_SEED)
        order = torch.randperm(len(index), generator=generator)
        # Points at random within their voxels: where the voxels of both series lie regularly to each other, those of a
        # lattice would be interpolated alike (Pluim et al. 2000, CVIU 77:211).
        place = (index + torch.rand(index.shape, generator=generator) - 0.5).T
        affine = torch.as_tensor(head.geometry.affine, dtype=torch.float32)
        world = affine[:3, :1] * place[0] + affine[:3, 1:2] * place[1] + affine[:3, 2:3] * place[2] + affine[:3, 3:]
        pixels = _finite(head.volume, device)
        self._levels = []
        for level in _LEVELS:
            chosen = world[:, order[: level.points].sort().values].to(device)
            bins = _scaled(_Series(*_averaged(pixels, head.volume.geometry, level.edge_mm)).at(chosen), _BINS - 1)
            self._levels.append(_Points(chosen, (bins + 0.5).int()))
        self._centre_mm = head.centre_mm
        self._device = device

    def register(self, volume: Volume, start: NDArray[np.float64]) -> Registered | None:
        """Return the best motion near `start`, 4 x 4; None if too little of the two series overlaps there."""
        pixels = _finite(volume, self._device)
        best = np.zeros(6)
        for level, points in zip(_LEVELS, self._levels, strict=True):
            voxels, geometry = _averaged(pixels, volume.geometry, level.edge_mm)
            moving = _Series(_scaled(voxels, (_BINS - 1) * _PARTS), geometry)
            height, best = _climb(partial(self._heights, moving, points, start), best, level)
            if not math.isfinite(height):
                return None
        before = float(moving.information(points, np.eye(4)[None])[0])
        (matrix,) = self._matrices(best[None], start)
        angles = Rotation.from_matrix(matrix[:3, :3]).as_euler("yxz", degrees=True)
        shift = matrix[:3, :3] @ self._centre_mm + matrix[:3, 3] - self._centre_mm
        return Registered(
            matrix,
            (float(angles[1]), float(angles[0]), float(angles[2])),
            (float(shift[0]), float(shift[1]), float(shift[2])),
            height - (before if math.isfinite(before) else 0.0),
        )

    def _heights(
        self, moving: "_Series", points: _Points, start: NDArray[np.float64], parameters: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return moving.information(points, self._matrices(parameters, start))

    def _matrices(self, parameters: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `start` after motions about the middle of the head, (K, 4, 4).

        `parameters` are (K, 6), mm: three rotations as far as _RADIUS_MM from the middle, and three shifts.
        """
        motions = np.tile(np.eye(4), (len(parameters), 1, 1))
        motions[:, :3, :3] = Rotation.from_rotvec(parameters[:, :3] / _RADIUS_MM).as_matrix()
        motions[:, :3, 3] = self._centre_mm + parameters[:, 3:] - motions[:, :3, :3] @ self._centre_mm
        return np.asarray(start @ motions)


class _Series:
    """A series that is interpolated at points of T1CE, and its joint histogram with T1CE, under many motions."""

    def __init__(self, voxels: Tensor, geometry: Geometry) -> None:
        """Take voxels (slices, rows, columns), finite, of `geometry`."""
        self._flat = voxels.flatten()
        self._to_index = np.linalg.inv(geometry.affine)
        self._shape = geometry.shape

    def at(self, points: Tensor) -> Tensor:
        """Return the values at points (3, N) of the series' own world; outside, that of the nearest voxel's face."""
        maps = torch.as_tensor(self._to_index[None, :3], dtype=torch.float32, device=points.device)
        placed = [self._placed(some, maps) for some in torch.split(points, _CPU_BATCH, dim=1)]
        return torch.cat([self._interpolated(corner, steps)[0] for _, corner, steps in placed])

    def information(self, points: _Points, to_series: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mutual information, nats, for motions (K, 4, 4); minus infinity where few points are inside."""
        maps = torch.as_tensor((self._to_index @ to_series)[:, :3], dtype=torch.float32, device=self._flat.device)
        at_once = _CPU_BATCH if maps.device.type == "cpu" else _GPU_BATCH
        pieces = [points[first : first + at_once] for first in range(0, len(points.bins), at_once)]
        several = torch.split(maps, max(1, at_once // len(points.bins)))
        joint = torch.cat([torch.stack([self._joint(each, few) for each in pieces]).sum(0) for few in several]).cpu()
        inside = joint.sum((1, 2))
        joint /= inside.clamp(min=1)[:, None, None]
        information = _entropy(joint.sum(1)) + _entropy(joint.sum(2)) - _entropy(joint.flatten(1))
        information[inside < _LEAST_INSIDE * len(points.bins)] = -torch.inf
        return information.numpy()

    def _joint(self, points: _Points, maps: Tensor) -> Tensor:
        """Return the joint histograms (K, bins of T1CE, bins of the series), float64, for maps to indices (K, 3, 4)."""
        inside, corner, steps = self._placed(points.world, maps)
        value = (self._interpolated(corner, steps) + 0.5).int()
        counters = _BINS * _BINS * _PARTS
        first = torch.arange(len(maps), device=maps.device, dtype=torch.int32)[:, None] * counters
        outside = len(maps) * counters
        counter = torch.where(inside, first + points.bins * (_BINS * _PARTS) + value, outside)
        counts = torch.bincount(counter.flatten(), minlength=outside + 1)[:-1].reshape(-1, _BINS, _BINS, _PARTS)
        # Linear windows: what lies between two bins counts for both. The sums are exact, whatever their order.
        upper = (counts * torch.arange(_PARTS, device=maps.device)).sum(3)
        joint = (counts.sum(3) * _PARTS - upper).double()
        joint[:, :, 1:] += upper[:, :, :-1]
        return joint / _PARTS

    def _placed(self, world: Tensor, maps: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return where points (3, N) come to lie, each (K, N).

        Whether it is between voxels; the flat index of the first of the eight around; the steps from it, 0 to 1, along
        each axis.
        """
        inside = torch.ones((len(maps), world.shape[1]), dtype=torch.bool, device=maps.device)
        corner, steps = torch.zeros_like(inside, dtype=torch.int32), []
        for axis, size in enumerate(self._shape):
            to_x, to_y, to_z, shift = (maps[:, axis, number, None] for number in range(4))
            place = to_x * world[0] + to_y * world[1] + to_z * world[2] + shift
            within = place.clamp(0, size - 1)
            below = within.int().clamp_(max=max(size - 2, 0))  # floor() would use more threads
            steps.append(within - below)
            inside &= within == place
            corner = corner * size + below
        return inside, corner, (steps[0], steps[1], steps[2])

    def _interpolated(self, corner: Tensor, steps: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the values, (K, N), interpolated linearly."""
        slices, rows, columns = self._shape
        strides = (rows * columns if slices > 1 else 0, columns if rows > 1 else 0, 1 if columns > 1 else 0)

        def along(axis: int, voxel: Tensor) -> Tensor:
            if axis == 3:
                return self._flat.index_select(0, voxel.flatten()).reshape(voxel.shape)
            return torch.lerp(along(axis + 1, voxel), along(axis + 1, voxel + strides[axis]), steps[axis])

        return along(0, corner)


def _climb(
    heights: Callable[[NDArray[np.float64]], NDArray[np.float64]], best: NDArray[np.float64], level: _Level
) -> tuple[float, NDArray[np.float64]]:
    """Climb from `best`; return the height and the parameters."""
    height = float(heights(best[None])[0])
    step = level.first_step_mm
    for _ in range(_MOST_STEPS):
        if step < level.last_step_mm:
            break
        around = np.concatenate([best + step * np.eye(6), best - step * np.eye(6)])
        values = heights(around)
        further = _further(best, height, values, step)
        candidates = np.concatenate([around, further])
        values = np.concatenate([values, heights(further)])
        winner = int(values.argmax())
        if values[winner] > height + _LEAST_RISE:
            height, best = float(values[winner]), candidates[winner]
        else:
            step /= 2
    return height, best


def _further(best: NDArray[np.float64], height: float, values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return the steps of Newton's method by parameter and along the gradient, from the values a step up and down."""
    if not np.isfinite([height, *values]).all():
        return best[None]
    plus, minus = values[:6], values[6:]
    gradient, curvature = (plus - minus) / (2 * step), (plus - 2 * height + minus) / step**2
    newton = np.where(curvature < 0, -gradient / np.minimum(curvature, -1e-12), step * np.sign(gradient))
    newton = np.clip(newton, -3 * step, 3 * step)
    along = gradient / max(float(np.linalg.norm(gradient)), 1e-12)
    return np.stack([*(best + s * newton for s in _NEWTON), *(best + s * step * along for s in _ALONG_GRADIENT)])


def _finite(volume: Volume, device: torch.device) -> Tensor:
    """Return the voxels, float32, with 0 where there is no value."""
    return torch.nan_to_num(torch.from_numpy(volume.pixels).to(device).float(), nan=0.0)


def _scaled(voxels: Tensor, top: int) -> Tensor:
    """Scale brightness to 0 to `top`, which the brightest thousandth gets."""
    low = float(voxels.min())
    flat = voxels.flatten()
    high = float(flat.kthvalue(max(1, int(0.999 * len(flat)))).values)
    return ((voxels - low) * (top / max(high - low, 1e-6))).clamp_(0, top)


def _averaged(voxels: Tensor, geometry: Geometry, most_mm: float) -> tuple[Tensor, Geometry]:
    """Average neighbouring voxels to larger ones of at most `most_mm` along each axis, where they are finer."""
    sides = zip(geometry.shape, geometry.spacing_mm, strict=True)
    slices, rows, columns = (max(1, min(size, int(most_mm / spacing))) for size, spacing in sides)
    averaged = functional.avg_pool3d(voxels[None, None], (slices, rows, columns))[0, 0]
    return averaged, geometry.averaged((slices, rows, columns))


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy
