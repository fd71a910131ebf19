"""Scalar fields on a coarse grid: coordinates, distances to ellipsoids, and band-limited noise."""

from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch.nn import functional

Field = NDArray[np.float32]
"""A value for every voxel, (slices, rows, columns)."""

REFINEMENT = 2
"""Edge of a coarse voxel in fine voxels."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Coordinates of every voxel in LPS millimetres from the middle of the brain, each (slices, rows, columns)."""

    x: Field
    y: Field
    z: Field

    def mirrored(self) -> "Coordinates":
        """Fold the right side onto the left, so that paired organs are described once, at positive x."""
        return Coordinates(np.abs(self.x), self.y, self.z)


def coarse_coordinates(
    shape: tuple[int, int, int], spacing_mm: float, centre_mm: tuple[float, float, float]
) -> Coordinates:
    """Return coordinates of the coarse grid for a fine grid of `shape`, centred at `centre_mm` (x, y, z)."""
    axes = []
    for size, middle in zip(shape, reversed(centre_mm), strict=True):
        coarse = size // REFINEMENT
        axes.append((np.arange(coarse) - (coarse - 1) / 2) * spacing_mm * REFINEMENT + middle)
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij")
    return Coordinates(x, y, z)


def refine(field: Field) -> Field:
    """Interpolate a coarse field to the fine grid, trilinearly."""
    tensor = torch.from_numpy(np.ascontiguousarray(field))[None, None]
    fine = functional.interpolate(tensor, scale_factor=REFINEMENT, mode="trilinear", align_corners=False)
    return fine[0, 0].numpy()


def below(field: Field, level: float = 0.0) -> NDArray[np.bool_]:
    """Return `refine(field) < level`, computed only where the field may be below the level."""
    mask = np.zeros([size * REFINEMENT for size in field.shape], dtype=bool)
    low = field < level
    box, wide, inner = [], [], []
    for axis in range(3):
        found = np.flatnonzero(low.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(found):
            return mask
        # A fine voxel is a mean of coarse ones at most one voxel away.
        first, last = max(int(found[0]) - 1, 0), min(int(found[-1]) + 2, field.shape[axis])
        start = max(first - 1, 0)
        box.append(slice(first * REFINEMENT, last * REFINEMENT))
        wide.append(slice(start, last + 1))
        inner.append(slice((first - start) * REFINEMENT, (last - start) * REFINEMENT))
    mask[tuple(box)] = refine(field[tuple(wide)])[tuple(inner)] < level
    return mask


def ellipsoid(
    at: Coordinates, centre_mm: tuple[float, float, float], semi_axes_mm: tuple[float, float, float]
) -> Field:
    """Return the approximate distance in millimetres to an ellipsoid, negative inside; exact on the surface.

    To first order: f / |grad f| with f = |p/s| (|p/s| - 1) (I. Quilez, https://iquilezles.org/articles/ellipsoids/).
    """
    scaled = [(value - c) / s for value, c, s in zip((at.x, at.y, at.z), centre_mm, semi_axes_mm, strict=True)]
    length = np.sqrt(sum(value**2 for value in scaled))
    slope = np.sqrt(sum((value / s) ** 2 for value, s in zip(scaled, semi_axes_mm, strict=True)))
    return np.asarray(length * (length - 1) / np.maximum(slope, 1e-4), dtype=np.float32)


def smooth_union(first: Field, second: Field, blend_mm: float) -> Field:
    """Return the union of two distance fields, with a fillet of `blend_mm` where they meet."""
    overlap = np.clip(0.5 + 0.5 * (second - first) / blend_mm, 0, 1)
    return np.asarray(second + (first - second) * overlap - blend_mm * overlap * (1 - overlap), dtype=np.float32)


def noise(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    spacing_mm: float,
    wavelength_mm: float,
    band: float = 0.3,
) -> Field:
    """Return Gaussian noise of mean 0 and variance 1 around one wavelength.

    `band` is the relative width of the spectrum. The noise is shaped in Fourier space, hence periodic over the grid.
    """
    white = generator.standard_normal(shape, dtype=np.float32)
    frequencies = [
        np.fft.fftfreq(shape[0], spacing_mm)[:, None, None],
        np.fft.fftfreq(shape[1], spacing_mm)[None, :, None],
        np.fft.rfftfreq(shape[2], spacing_mm)[None, None, :],
    ]
    radius = np.sqrt(sum(f.astype(np.float32) ** 2 for f in frequencies)) * wavelength_mm
    spectrum = scipy.fft.rfftn(white) * np.exp(-0.5 * ((radius - 1) / band) ** 2)
    shaped = scipy.fft.irfftn(spectrum, s=shape)
    return np.asarray((shaped - shaped.mean()) / max(float(shaped.std()), 1e-6), dtype=np.float32)


def level_distance(field: Field, spacing_mm: float) -> Field:
    """Return the approximate distance in millimetres to the zeros of `field`, with its sign: field / |gradient|."""
    slopes = np.gradient(field, spacing_mm)
    steepness = np.sqrt(sum(slope**2 for slope in slopes))
    # A lower bound of the gradient keeps distances finite where the field is flat.
    return np.asarray(field / np.maximum(steepness, 0.3 * float(steepness.mean())), dtype=np.float32)
