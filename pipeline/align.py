"""Bring the chosen volumes onto one grid: rigid registration to T1CE, then resampling."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.labels import Role
from pipeline.air import with_air
from pipeline.alignment import RoleAlignment, as_matrix
from pipeline.normalise import head_mask
from pipeline.remarks import Remark
from pipeline.resample import resample
from pipeline.volume import IDENTITY, Geometry, Volume

_SAMPLING_SEED = 1
_GRID_MULTIPLE = 16
"""Sizes of grids are multiples of this for every network, so that networks of strides 1 to 16 get the same grid and can
share a data set."""


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """Settings of the registration to T1CE."""

    enabled: bool = True
    """False uses the scanner's own coordinates for every series."""
    max_rotation_deg: float = 15.0
    """With a larger rotation the registration counts as failed, and the scanner's geometry is used."""
    max_translation_mm: float = 25.0
    """The same for the shift of the head's centre."""
    min_gain: float = 0.005
    """Mutual information (nats) that a registration must gain to be kept."""
    resolution_mm: float = 3.0
    """Edge of the voxels on which mutual information is measured."""

    def __post_init__(self) -> None:
        if not 1 <= self.resolution_mm <= 10:
            raise ValueError("resolution_mm must lie between 1 and 10")
        if self.max_rotation_deg <= 0 or self.max_translation_mm <= 0:
            raise ValueError("max_rotation_deg and max_translation_mm must be positive")


@dataclass(frozen=True, slots=True)
class Aligned:
    """The study's channels on one grid."""

    channels: Tensor
    """(roles, slices, rows, columns) float32; NaN outside of a series."""
    roles: tuple[Role, ...]
    grid: Geometry
    """Axis-aligned in T1CE's world: slices towards the head, rows towards the back, columns towards the left."""
    alignments: tuple[RoleAlignment, ...]
    """One for every role but T1CE, in the order of `roles`."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about the alignment."""


def align(
    volumes: Mapping[Role, Volume],
    roles: tuple[Role, ...],
    spacing_mm: float,
    stride: int,
    device: torch.device,
    settings: AlignSettings = AlignSettings(),
) -> Aligned:
    """Register every volume to T1CE and sample all of them on one grid around the head.

    The grid has isotropic voxels of `spacing_mm`, one of which coincides with a voxel of T1CE, and sizes that are
    multiples of `stride` and of 16. Registration is rigid, by Mattes' mutual information (Mattes et al. 2003, IEEE TMI
    22:120), starting from the scanner's coordinates. Raises KeyError for a role without a volume.
    """
    # ADC is missing in air in any case: noise has none.
    volumes = {role: volume if role is Role.ADC else with_air(volume) for role, volume in volumes.items()}
    t1ce = volumes[Role.T1CE]
    moving = tuple(role for role in roles if role is not Role.T1CE)
    fixed = torch.from_numpy(t1ce.pixels).to(device)[None]
    low, high = _head_box(fixed[0], t1ce.geometry)
    alignments = _register_all(fixed, low, high, volumes, moving, settings)
    grid = _grid(low, high, spacing_mm, math.lcm(stride, _GRID_MULTIPLE), t1ce.geometry.frame_of_reference_uid)
    grid = _align_to_voxel(grid, t1ce.geometry)
    to_series = {alignment.role: alignment.matrix for alignment in alignments}
    channels = torch.empty((len(roles), *grid.shape), device=device)
    for channel, role in enumerate(roles):
        voxels = fixed if role is Role.T1CE else torch.from_numpy(volumes[role].pixels).to(device)[None]
        channels[channel] = resample(voxels, volumes[role].geometry, grid, to_series.get(role, IDENTITY))[0]
    return Aligned(channels, roles, grid, alignments)


def _head_box(t1ce: Tensor, geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the world corners (low, high) of the axis-aligned box around the head, with a margin of 5 mm."""
    mask = head_mask(t1ce)
    corners = []
    for axis in range(3):
        counts = mask.sum(dim=[other for other in range(3) if other != axis]).cpu().numpy()
        # A plane needs 1 % of its voxels in the mask to count, so that isolated noise does not widen the box.
        planes = np.flatnonzero(counts > 0.01 * mask[0].numel() if axis == 0 else counts > 0.01 * counts.max())
        corners.append((planes[0], planes[-1]) if len(planes) else (0, geometry.shape[axis] - 1))
    points = np.array([[s, r, c, 1.0] for s in corners[0] for r in corners[1] for c in corners[2]])
    world = (geometry.affine @ points.T)[:3]
    return world.min(axis=1) - 5, world.max(axis=1) + 5


def _grid(
    low: NDArray[np.float64], high: NDArray[np.float64], spacing_mm: float, stride: int, frame_of_reference_uid: str
) -> Geometry:
    x, y, z = (int(-(-length // (spacing_mm * stride)) * stride) for length in high - low)
    middle = (low + high) / 2
    centre = (float(middle[0]), float(middle[1]), float(middle[2]))
    return Geometry.axial((z, y, x), (spacing_mm, spacing_mm, spacing_mm), centre, frame_of_reference_uid)


def _align_to_voxel(grid: Geometry, t1ce: Geometry) -> Geometry:
    """Move the grid by half a voxel at most, so that one of its voxels coincides with the T1CE voxel in its middle.

    A T1CE of the same spacing is then not interpolated between voxels, which would blur thin rims.
    """
    middle = grid.affine @ np.array([*(np.array(grid.shape) // 2), 1.0])
    nearest = np.round((np.linalg.inv(t1ce.affine) @ middle)[:3])
    shift = (t1ce.affine @ np.array([*nearest, 1.0]) - middle)[:3]
    spacing = grid.spacing_mm[0]
    origin = np.array(grid.origin_mm) + shift - spacing * np.round(shift / spacing)
    return replace(grid, origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])))


def _register_all(
    fixed: Tensor,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    volumes: Mapping[Role, Volume],
    roles: tuple[Role, ...],
    settings: AlignSettings,
) -> tuple[RoleAlignment, ...]:
    t1ce = volumes[Role.T1CE].geometry
    if not settings.enabled:
        return tuple(_scanner_geometry(role, "registration is switched off in the settings") for role in roles)
    coarse = _grid(low, high, settings.resolution_mm, 1, t1ce.frame_of_reference_uid)
    sampled = resample(fixed, t1ce, coarse)[0]
    mask = head_mask(sampled).cpu().numpy()
    image = _image(torch.nan_to_num(sampled, nan=0.0).cpu().numpy(), coarse)
    fixed_mask = _image(mask.astype(np.uint8), coarse)
    with ThreadPoolExecutor(max_workers=max(1, len(roles))) as pool:
        return tuple(pool.map(lambda role: _register(role, image, fixed_mask, volumes[role], t1ce, settings), roles))


def _register(
    role: Role, fixed: sitk.Image, fixed_mask: sitk.Image, volume: Volume, t1ce: Geometry, settings: AlignSettings
) -> RoleAlignment:
    moving = _image(np.nan_to_num(volume.pixels, nan=0.0), volume.geometry)
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()])
    same_frame = volume.geometry.frame_of_reference_uid == t1ce.frame_of_reference_uid
    try:
        before = _metric(fixed, fixed_mask).MetricEvaluate(fixed, moving)  # with the identity
        transform = sitk.Euler3DTransform()
        transform.SetCenter(centre)
        method = _metric(fixed, fixed_mask)
        # Half of the voxels find the same motion in half of the time; the seed makes it reproducible.
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.5, _SAMPLING_SEED)
        # Powell's method needs no derivative: with 5 mm slices the gradient of mutual information is misleading.
        # On a study with known motion its error was below 0.3 degrees; that of gradient descent was 5 for ADC.
        method.SetOptimizerAsPowell(stepLength=1.0, numberOfIterations=20, stepTolerance=0.01, valueTolerance=1e-5)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([2.0, 0.0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(fixed, moving)
        after_method = _metric(fixed, fixed_mask)
        after_method.SetInitialTransform(transform)
        gain = before - after_method.MetricEvaluate(fixed, moving)  # ITK's value is minus the mutual information
    except RuntimeError:
        # ITK raises it if the two images do not overlap enough to measure mutual information.
        return _scanner_geometry(role, "registration found too little overlap; the scanner's geometry is used")
    angles = np.degrees((transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ()))
    rotation = (float(angles[0]), float(angles[1]), float(angles[2]))
    x, y, z = transform.GetTranslation()
    words = f"mutual information gained {gain:.3f}" + ("" if same_frame else "; the frames of reference differ")
    if gain < settings.min_gain:
        return _scanner_geometry(role, f"{words}: too little, the scanner's geometry is used")
    if (
        max(map(abs, rotation)) > settings.max_rotation_deg
        or float(np.hypot(np.hypot(x, y), z)) > settings.max_translation_mm
    ):
        return _scanner_geometry(role, f"{words}, but the motion is out of bounds: the scanner's geometry is used")
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    return RoleAlignment(role, True, rotation, (x, y, z), as_matrix(matrix), words)


def _metric(fixed: sitk.Image, fixed_mask: sitk.Image) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over threads would make the last digits depend on their order
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricFixedMask(fixed_mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(sitk.Euler3DTransform())
    return method


def _image(voxels: NDArray[np.generic], geometry: Geometry) -> sitk.Image:
    """Convert to a SimpleITK image; ITK's axes are (column, row, slice), and its world is LPS, too."""
    image = sitk.GetImageFromArray(voxels)
    affine, spacing = geometry.affine, np.array(geometry.spacing_mm)
    direction = (affine[:3, :3] / spacing)[:, ::-1]
    image.SetSpacing([float(value) for value in spacing[::-1]])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection([float(value) for value in direction.ravel()])
    return image


def _scanner_geometry(role: Role, why: str) -> RoleAlignment:
    return RoleAlignment(role, False, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), IDENTITY, why)
