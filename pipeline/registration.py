"""Hold what every registration of a series to the reference needs and gives, whichever engine finds the motion."""

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.labels import Role
from pipeline.head_box import Box
from pipeline.likeness import Coarse
from pipeline.volume import Geometry, Vector, Volume

_AIR_MM = 9.0
"""Air around the head that counts: inside the head alone, the edge of a brain may be moved across fluid and gain."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A rigid motion that a registration found."""

    matrix: NDArray[np.float64]
    """4 x 4, from the reference's world to that of the series."""
    rotation_deg: Vector
    """Euler angles about x, y and z."""
    translation_mm: Vector
    """Shift of the middle of the reference's head."""
    gain: float
    """Mutual information, nats, more than with the scanner's coordinates, in the reference's head and the air around.
    """


class Engine(Protocol):
    """Registers series to one reference series."""

    def register(self, volume: Volume, start: NDArray[np.float64]) -> Registered | None:
        """Return the best motion near `start`, 4 x 4; None if too little of the two series overlaps there."""


class FixedHead:
    """The reference series around its head, on voxels of a few millimetres."""

    def __init__(self, volume: Volume, role: Role, averaged: Coarse, box: Box) -> None:
        """Crop `averaged`, which was made of `volume`, to the `box` around its head and some air."""
        self.volume = volume
        self.role = role
        reach = [max(1, round(_AIR_MM / spacing)) for spacing in averaged.geometry.spacing_mm]
        part = _indices_of(box, averaged.geometry, reach)
        self.geometry = averaged.geometry.cropped(part)
        voxels = averaged.voxels[part]
        self.voxels = torch.nan_to_num(voxels, nan=0.0)
        """(slices, rows, columns) float32 on `geometry`; 0 where the reference has no value."""
        padded = functional.pad(averaged.head[part].float()[None], [each for r in reversed(reach) for each in (r, r)])
        near = functional.max_pool3d(padded, [2 * each + 1 for each in reach], stride=1)[0] > 0
        self.mask = near & torch.isfinite(voxels)
        """The head and the air around it, as far as the reference shows them."""
        low, high = box
        self.centre_mm = (low + high) / 2
        half = 0.7 * (high - low) / 2  # the corners of the box lie outside of the head
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        self.surface_points = np.vstack([(self.centre_mm + signs * half).T, np.ones(8)])
        """Points (4, 8) near the surface of the head, homogeneous world coordinates."""


def _indices_of(box: Box, geometry: Geometry, reach: list[int]) -> tuple[slice, slice, slice]:
    """Return the part of an array that covers a box in world coordinates, and `reach` more voxels on each side."""
    corners = np.array([[*(side[axis] for axis, side in enumerate(pick)), 1.0] for pick in product(box, repeat=3)])
    index = (np.linalg.inv(geometry.affine) @ corners.T)[:3]
    sides = []
    for axis, size in enumerate(geometry.shape):
        low, high = int(index[axis].min()) - reach[axis], int(np.ceil(index[axis].max())) + reach[axis]
        sides.append(slice(max(0, min(low, size - 1)), max(1, min(high + 1, size))))
    return sides[0], sides[1], sides[2]
