"""Make training samples of a head with random contrast, pose, resolution and artefacts, like scans of many scanners.

All parameters are drawn anew for each sample from wide ranges, so that a real scan looks like one more sample (Billot
et al. 2023, SynthSeg, Medical Image Analysis 86:102789).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from models.labels import Role
from models.training.synthetic import artefacts
from models.training.synthetic.fields import noise
from models.training.synthetic.head import LABEL_TISSUES, SyntheticHead
from models.training.synthetic.signal import TEXTURE, Contrast, draw_contrast, echo_planar_levels, signal_levels
from models.training.synthetic.tissue import Tissue
from pipeline.alignment import as_matrix
from pipeline.normalise import head_mask, normalise
from pipeline.resample import resample
from pipeline.volume import Geometry, Matrix

CHANNELS = (Role.ADC, Role.FLAIR, Role.T1CE)
"""Input channels of the network, in order."""

_FREE_SPREAD = np.full(len(Tissue), 0.12, np.float32)
"""Standard deviation of the logarithm of a tissue's brightness under free contrast: small inside the brain, so that
white and grey matter stay recognisable; large outside, where fat suppression and coils vary much."""
_FREE_SPREAD[[Tissue.FAT, Tissue.MARROW, Tissue.MUSCLE, Tissue.BONE, Tissue.MUCOSA, Tissue.DURA, Tissue.VESSEL]] = 0.5
_FREE_SPREAD[[Tissue.CSF, Tissue.VITREOUS, Tissue.CAVITY, Tissue.BLOOD]] = 0.35
_BRIGHTER = {
    Role.FLAIR: ([Tissue.OEDEMA, Tissue.NON_ENHANCING, Tissue.ENHANCING], 0.8),
    Role.T1CE: ([Tissue.ENHANCING], 0.5),
}
"""Tissues of a lesion that may be brighter than the signal equations say, and the largest log of the factor."""
_FLAIR_AFTER_CONTRAST = 0.15
"""Share of the samples whose FLAIR was scanned after contrast agent was given."""
_STRIPPED = 0.1
"""Share of the samples without skull and face."""
_OUTSIDE = [
    *(Tissue.AIR, Tissue.MUSCLE, Tissue.FAT, Tissue.BONE, Tissue.MARROW, Tissue.DURA, Tissue.MUCOSA, Tissue.VITREOUS),
]
_BRAIN = [Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY]
_LESION = sorted({tissue for tissues in LABEL_TISSUES for tissue in tissues})


@dataclass(frozen=True, slots=True)
class Sample:
    """A training sample: one random scan of a head on the network's grid."""

    channels: Tensor
    """(CHANNELS, slices, rows, columns) float32, normalised."""
    fractions: Tensor
    """(labels, slices, rows, columns) float32 in the order of PAPER_LABELS: fraction of the voxel, 0 to 1."""


def augment(head: SyntheticHead, generator: np.random.Generator, spacing_mm: float) -> Sample:
    """Return a random scan of the head: CHANNELS and label fractions on one axis-aligned grid of `spacing_mm`."""
    contrast = draw_contrast(generator, spread=0.1)
    grid = _draw_grid(generator, spacing_mm)
    pose = _draw_pose(generator)
    texture = _draw_texture(generator, head)
    enhanced, stripped = generator.random(2) < (_FLAIR_AFTER_CONTRAST, _STRIPPED)
    raw = torch.cat([_acquire(role, head, texture, contrast, grid, pose, generator, enhanced) for role in CHANNELS])
    _drop_coverage(raw, generator)
    if stripped:
        _strip_skull(raw, head, grid, pose)
    box = _head_box(raw[CHANNELS.index(Role.T1CE)], generator, spacing_mm)
    return Sample(channels=normalise(raw[box], CHANNELS), fractions=label_fractions(head, grid, as_matrix(pose))[box])


def label_fractions(head: SyntheticHead, grid: Geometry, pose: Matrix) -> Tensor:
    """Return the fraction of each voxel of `grid` that belongs to each label: (labels, slices, rows, columns).

    `pose` maps world coordinates of `grid` to those of the head. The fractions come from eight points per voxel, so
    that a network can learn where an outline crosses a voxel.
    """
    fractions = torch.zeros((len(LABEL_TISSUES), *grid.shape))
    voxels = np.argwhere(np.isin(head.tissue, _LESION))
    if not len(voxels):
        return fractions
    low, high = np.maximum(voxels.min(0) - 2, 0), np.minimum(voxels.max(0) + 3, head.tissue.shape)
    inside = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = (inside[0], inside[1], inside[2])
    codes = torch.zeros((len(LABEL_TISSUES), len(Tissue)))
    for number, tissues in enumerate(LABEL_TISSUES):
        codes[number, list(tissues)] = 1
    source = head.geometry.cropped(part)
    window = _window(grid, np.linalg.inv(grid.affine) @ np.linalg.inv(np.array(pose)) @ source.affine, source.shape)
    target = grid.cropped(window)
    if not all(target.shape):
        return fractions
    half = target.affine @ np.diag((0.5, 0.5, 0.5, 1.0))
    half[:3, 3] = (target.affine @ np.array((-0.25, -0.25, -0.25, 1.0)))[:3]
    doubled = (2 * target.shape[0], 2 * target.shape[1], 2 * target.shape[2])
    fine = Geometry.from_affine(half, doubled, grid.frame_of_reference_uid)
    sampled = resample(codes[:, torch.from_numpy(head.tissue[part]).int()], source, fine, pose)
    fractions[(slice(None), *window)] = functional.avg_pool3d(torch.nan_to_num(sampled, nan=0.0), 2)
    return fractions


def _window(grid: Geometry, to_grid: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the part of `grid` that a box of `shape` covers; `to_grid` maps indices of the box to the grid's."""
    corners = np.array([[k, i, j, 1.0] for k in (0, shape[0]) for i in (0, shape[1]) for j in (0, shape[2])])
    reached = (to_grid @ corners.T)[:3]
    low = np.clip(np.floor(reached.min(axis=1)) - 1, 0, grid.shape).astype(int)
    high = np.clip(np.ceil(reached.max(axis=1)) + 2, 0, grid.shape).astype(int)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _head_box(t1ce: Tensor, generator: np.random.Generator, spacing_mm: float) -> tuple[slice, slice, slice, slice]:
    """Return the crop of a (roles, slices, rows, columns) stack around the head, as `pipeline.align` crops it."""
    mask = head_mask(t1ce)
    box = [slice(None)]
    for axis in range(3):
        counts = mask.sum(dim=[other for other in range(3) if other != axis])
        planes = torch.nonzero(counts > 0.01 * counts.max()).flatten()
        margin = round(float(generator.uniform(1, 9)) / spacing_mm)
        box.append(slice(max(0, int(planes[0]) - margin), int(planes[-1]) + 1 + margin))
    return (box[0], box[1], box[2], box[3])


def _draw_grid(generator: np.random.Generator, spacing_mm: float) -> Geometry:
    # Coverage of 150 to 225 mm, with or without neck and air.
    extent = generator.uniform((150, 200, 165), (225, 245, 235))
    shape = (round(extent[0] / spacing_mm), round(extent[1] / spacing_mm), round(extent[2] / spacing_mm))
    # A tall field of view extends beyond the head above, below or both.
    down = max(0.0, extent[0] - 184) * generator.uniform(0, 0.5)
    x, y, z = generator.normal((0, -6, -3 - down), (4, 4, 6))
    return Geometry.axial(shape, (spacing_mm,) * 3, (float(x), float(y), float(z)), "")


def _draw_pose(generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw the map from world coordinates of the grid to those of the head: rotation, size and shape."""
    pose = np.eye(4)
    turn = Rotation.from_euler("xyz", generator.normal(0, (5, 4, 5)), degrees=True).as_matrix()
    pose[:3, :3] = turn @ np.diag(generator.uniform(0.88, 1.12) * generator.uniform(0.95, 1.05, size=3))
    return pose


def _draw_texture(generator: np.random.Generator, head: SyntheticHead) -> Tensor:
    """Draw the texture of every voxel of the head, mean 0: noise of random size, with an amplitude for each tissue."""
    pattern = _draw_pattern(generator, head.geometry, 2, (8, 30))
    strength = TEXTURE * np.exp(0.4 * generator.standard_normal(len(Tissue))).astype(np.float32)
    return pattern.mul_(_tissue_values(strength, head))


def _draw_regions(generator: np.random.Generator, head: SyntheticHead) -> Tensor:
    """Draw the relative brightness of every voxel in one sequence, around 1, which varies between regions of a brain.

    Myelin, iron, fibres and age differ between regions: white matter alone varies by several per cent in every
    sequence. A network trained on homogeneous brains takes the brighter half of a real one for oedema.
    """
    pattern = _draw_pattern(generator, head.geometry, 4, (25, 90))
    strength = np.zeros(len(Tissue), np.float32)
    spread = np.exp(generator.uniform(np.log(0.01), np.log(0.12), size=len(_BRAIN)))
    strength[_BRAIN] = spread * generator.choice((-1, 1), size=len(_BRAIN))
    return pattern.mul_(_tissue_values(strength, head)).add_(1)


def _draw_pattern(
    generator: np.random.Generator, geometry: Geometry, factor: int, wavelengths_mm: tuple[float, float]
) -> Tensor:
    """Draw noise of a random wavelength for every voxel, made on voxels `factor` times as wide."""
    wavelength = float(np.exp(generator.uniform(*np.log(wavelengths_mm))))
    coarse = tuple(size // factor for size in geometry.shape)
    pattern = torch.from_numpy(noise(generator, coarse, factor * geometry.spacing_mm[0], wavelength, band=0.5))
    return functional.interpolate(pattern[None, None].clamp_(-2.5, 2.5), size=geometry.shape, mode="trilinear")[0, 0]


def _tissue_values(table: NDArray[np.float32], head: SyntheticHead) -> Tensor:
    """Return the table's value for the tissue of each voxel: (slices, rows, columns)."""
    return torch.from_numpy(np.take(table, head.tissue))


def _acquire(
    role: Role,
    head: SyntheticHead,
    texture: Tensor,
    contrast: Contrast,
    grid: Geometry,
    pose: NDArray[np.float64],
    generator: np.random.Generator,
    enhanced: bool,
) -> Tensor:
    """Return one sequence (1, slices, rows, columns) on the grid: random resolution, artefacts and misalignment."""
    voxel = artefacts.draw_voxel(generator, role, head.geometry.spacing_mm[0])
    levels = _tissue_values(signal_levels(role, contrast, enhanced) * _draw_brightness(role, generator), head)
    # The sequences share a texture, with different amplitude and sometimes opposite sign.
    levels *= (1 + float(generator.uniform(-0.5, 1.2)) * texture).clamp_(min=0)
    levels *= _draw_regions(generator, head)
    if role is Role.ADC:
        b0 = echo_planar_levels(contrast)
        weight = _tissue_values(b0, head)
        native = functional.avg_pool3d(torch.stack((levels.mul_(weight), weight)), voxel)
        native = artefacts.distort_echo_planar(native, pooled(head.geometry, voxel), generator)
        native = artefacts.make_adc_map(native, float(b0[Tissue.WHITE]), generator)
    else:
        native = artefacts.make_weighted_image(functional.avg_pool3d(levels[None], voxel), generator)
    if role is not Role.T1CE:
        pose = artefacts.draw_misalignment(generator) @ pose
    return resample(native, pooled(head.geometry, voxel), grid, as_matrix(pose))


def _draw_brightness(role: Role, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw a brightness factor for each tissue: near 1 for half of the scans, widely varied for the other half.

    A network trained on the signal equations alone takes the grey matter of a real FLAIR for oedema.
    """
    spread = np.full(len(Tissue), 0.05, np.float32)
    factors = np.ones(len(Tissue), np.float32)
    if role is not Role.ADC and generator.random() < 0.5:
        spread = _FREE_SPREAD
        tissues, most = _BRIGHTER[role]
        factors[tissues] = np.exp(generator.uniform(0, most))
    return np.asarray(factors * np.exp(spread * generator.standard_normal(len(Tissue))), np.float32)


def _strip_skull(raw: Tensor, head: SyntheticHead, grid: Geometry, pose: NDArray[np.float64]) -> None:
    """Make everything outside the dura 0, in place, as in public sets whose brains were extracted."""
    inside = torch.from_numpy(~np.isin(head.tissue, _OUTSIDE)).float()[None]
    brain = resample(inside, head.geometry, grid, as_matrix(pose))[0] >= 0.5  # NaN, outside the head's grid, is not
    raw[:, ~brain] = 0


def _drop_coverage(raw: Tensor, generator: np.random.Generator) -> None:
    """Remove the lowest and highest slices of ADC and FLAIR at random, in place, as scans differ in coverage."""
    slices = raw.shape[1]
    for channel in raw[:2]:
        if generator.random() < 0.4:
            channel[: int(generator.uniform(0, 0.3) * slices)] = torch.nan
            channel[slices - int(generator.uniform(0, 0.05) * slices) :] = torch.nan


def pooled(geometry: Geometry, voxel: tuple[int, int, int]) -> Geometry:
    """Return the grid after average pooling by `voxel`."""
    affine = geometry.affine @ np.diag([*voxel, 1.0])
    affine[:3, 3] = (geometry.affine @ np.array([*((edge - 1) / 2 for edge in voxel), 1.0]))[:3]
    shape = (geometry.shape[0] // voxel[0], geometry.shape[1] // voxel[1], geometry.shape[2] // voxel[2])
    return Geometry.from_affine(affine, shape, geometry.frame_of_reference_uid)
