"""Bring the chosen volumes onto one grid: rigid registration to the reference series, then resampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.labels import Role
from pipeline.air import with_air
from pipeline.align_settings import DEFAULT_SETTINGS, AlignSettings
from pipeline.alignment import RoleAlignment
from pipeline.head_box import grid_around, head_box
from pipeline.reference import reference_of
from pipeline.register_series import alignment_remarks, register_series
from pipeline.remarks import Remark
from pipeline.resample import resample
from pipeline.volume import IDENTITY, Geometry, Volume

_GRID_MULTIPLE = 16
"""Sizes of grids are multiples of this for every network, so that networks of strides 1 to 16 get the same grid and can
share a data set."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """The study's channels on one grid."""

    channels: Tensor
    """(roles, slices, rows, columns) float32; NaN outside of a series."""
    roles: tuple[Role, ...]
    """The channels that the study has, in the order in which they were wanted."""
    reference: Role
    """The series that the others were registered to; see `pipeline.reference`."""
    grid: Geometry
    """Axis-aligned in the reference's world: slices towards the head, rows towards the back, columns towards the left.
    """
    alignments: tuple[RoleAlignment, ...]
    """One for every other series: the channels in the order of `roles`, then those that are no channel."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about the alignment."""


def align(
    volumes: Mapping[Role, Volume],
    roles: tuple[Role, ...],
    spacing_mm: float,
    stride: int,
    device: torch.device,
    settings: AlignSettings = DEFAULT_SETTINGS,
) -> Aligned:
    """Register every volume to the reference series and sample those of `roles` on one grid around the head.

    A role without a volume is left out; the order of `volumes` has no influence. The grid has isotropic voxels of
    `spacing_mm`, one of which coincides with a voxel of the reference, and sizes that are multiples of `stride` and of
    16. Registration is rigid, by mutual information, and kept on evidence alone (see `pipeline.registration_gate`).
    Raises PlaceUncertain where neither the scanner's coordinates nor a registration is believed, and ValueError where
    no role has a volume.
    """
    reference = reference_of(volumes)
    roles = tuple(role for role in roles if role in volumes)
    if not roles:
        raise ValueError("none of the channels has a volume")
    # ADC is missing in air in any case: noise has none.
    volumes = {role: volume if role is Role.ADC else with_air(volume) for role, volume in volumes.items()}
    fixed_volume = volumes[reference]
    moving = tuple(role for role in dict.fromkeys([*roles, *sorted(volumes)]) if role is not reference)
    fixed = torch.from_numpy(fixed_volume.pixels).to(device)[None]
    low, high = head_box(fixed[0], fixed_volume.geometry)
    alignments = register_series(volumes, moving, (low, high), settings, device)
    frame_of_reference_uid = fixed_volume.geometry.frame_of_reference_uid
    grid = grid_around(low, high, spacing_mm, math.lcm(stride, _GRID_MULTIPLE), frame_of_reference_uid)
    grid = _align_to_voxel(grid, fixed_volume.geometry)
    to_series = {alignment.role: alignment.matrix for alignment in alignments}
    channels = torch.empty((len(roles), *grid.shape), device=device)
    for channel, role in enumerate(roles):
        voxels = fixed if role is reference else torch.from_numpy(volumes[role].pixels).to(device)[None]
        channels[channel] = resample(voxels, volumes[role].geometry, grid, to_series.get(role, IDENTITY))[0]
    return Aligned(channels, roles, reference, grid, alignments, alignment_remarks(volumes, alignments))


def _align_to_voxel(grid: Geometry, reference: Geometry) -> Geometry:
    """Move the grid by half a voxel at most, so that one of its voxels coincides with the reference's voxel in its
    middle.

    A reference of the same spacing is then not interpolated between voxels, which would blur thin rims.
    """
    middle = grid.affine @ np.array([*(np.array(grid.shape) // 2), 1.0])
    nearest = np.round((np.linalg.inv(reference.affine) @ middle)[:3])
    shift = (reference.affine @ np.array([*nearest, 1.0]) - middle)[:3]
    spacing = grid.spacing_mm[0]
    origin = np.array(grid.origin_mm) + shift - spacing * np.round(shift / spacing)
    return replace(grid, origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])))
