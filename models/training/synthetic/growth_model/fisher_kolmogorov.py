"""Grow a tumour as a density of cells that divide and migrate: the Fisher-Kolmogorov equation.

    du/dt = div(D grad u) + rho u (1 - u)

D is larger in white than in grey matter and 0 in fluid (Swanson et al. 2000; Clatz et al. 2005). Time is in units in
which rho is about 1, so that the square root of D is the width of the front in millimetres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from models.training.synthetic.fields import Field
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.voxelise import Mask

_STABLE = 0.15
"""Largest D dt / h^2 of the explicit scheme; it is stable up to 1/6."""
_LONGEST_STEP = 0.25
_MOST_STEPS = 1500
_SMALLEST_CHANGE = 1e-4
"""Growth ends when no density changes by more than this in a step."""
_SMALLEST_DENSITY = 1e-30
"""Smaller densities count as 0: no cell has reached the voxel."""
UNREACHED = -1e3
"""Logit of a density of 0."""


@dataclass(frozen=True, slots=True)
class GrowthParameters:
    """Parameters of the growth of a tumour."""

    width_mm: float
    """Square root of D / rho in white matter."""
    grey_share: float
    """D in grey matter, relative to that in white."""
    level: float
    """Density at which tissue counts as the tumour's core."""


def grow(
    white: Field, grey: Field, rate: Field, seeds: Points, growth: GrowthParameters, volume_mm3: float, voxel_mm: float
) -> Field:
    """Return the logit of the density, ln(u / (1 - u)), when the core has reached its volume or cannot grow further.

    `white` and `grey` are fractions of each voxel, `rate` is rho (about 1), and `voxel_mm` the edge of a voxel. Seeds
    are in index units and must be in tissue. The logit is nearly linear across the front, so it can be interpolated;
    outside of tissue it is that of the nearest tissue.
    """
    box = _growth_box(
        white.shape, seeds, reach_mm=2.2 * np.cbrt(volume_mm3) + 12 * growth.width_mm + 30, voxel_mm=voxel_mm
    )
    tissue = white[box] + grey[box]
    mobility = white[box] + growth.grey_share * grey[box]
    spread = np.where(tissue > 0.5, growth.width_mm**2 * mobility, 0).astype(np.float32)
    step = min(_LONGEST_STEP, _STABLE * voxel_mm**2 / max(float(spread.max()), 1e-6))
    faces = [_harmonic(spread, axis) * np.float32(step / voxel_mm**2) for axis in range(3)]
    division = (rate[box] * (tissue > 0.5) * step).astype(np.float32)
    density = np.zeros(tissue.shape, dtype=np.float32)
    for seed in np.round(seeds).astype(int) - [part.start for part in box]:
        density[tuple(seed)] = 0.9
    wanted = volume_mm3 / voxel_mm**3
    for _ in range(_MOST_STEPS):
        change = division * density * (1 - density) + _spread(density, faces)
        density = density + change
        if np.count_nonzero(density > growth.level) >= wanted or float(np.abs(change).max()) < _SMALLEST_CHANGE:
            break
    some = np.clip(density, _SMALLEST_DENSITY, 1 - 1e-6)
    within = np.where(density > _SMALLEST_DENSITY, np.log(some / (1 - some)), UNREACHED)
    nearest = distance_transform_edt(tissue <= 0.5, return_distances=False, return_indices=True)
    logit = np.full(white.shape, UNREACHED, dtype=np.float32)
    logit[box] = within[tuple(nearest)]
    return logit


def level_at(logit: Field, core: Mask, where: Mask, reach_mm: float, voxel_mm: float) -> float:
    """Return the median logit at `reach_mm` outside of the core (inside, if negative) among the voxels of `where`.

    The level set of this logit follows the growth and has that distance from the core on average. The result is
    infinite if no voxel is so far away.
    """
    around = _bounding_box(core, round(abs(reach_mm) / voxel_mm) + 3)
    inside = core[around]
    away = np.where(
        inside, 0.5 - np.asarray(distance_transform_edt(inside)), np.asarray(distance_transform_edt(~inside)) - 0.5
    )
    ring = where[around] & (np.abs(away * voxel_mm - reach_mm) <= 0.75 * voxel_mm) & (logit[around] > UNREACHED)
    return float(np.median(logit[around][ring])) if ring.any() else np.inf


def _growth_box(shape: tuple[int, ...], seeds: Points, reach_mm: float, voxel_mm: float) -> tuple[slice, slice, slice]:
    reach = reach_mm / voxel_mm
    low = np.maximum(np.floor(seeds.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(seeds.max(axis=0) + reach) + 1, shape).astype(int)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _bounding_box(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    places = np.argwhere(mask)
    low, high = np.maximum(places.min(axis=0) - margin, 0), places.max(axis=0) + margin + 1
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _harmonic(spread: Field, axis: int) -> Field:
    """Return D on the faces between neighbours along an axis, as a harmonic mean: 0 if either D is 0."""
    a, b = np.moveaxis(spread, axis, 0)[:-1], np.moveaxis(spread, axis, 0)[1:]
    return np.asarray(np.moveaxis(2 * a * b / np.maximum(a + b, 1e-9), 0, axis), dtype=np.float32)


def _spread(density: Field, faces: list[Field]) -> Field:
    """Return the change of each voxel by diffusion in a step; the sum over all voxels is 0."""
    gain = np.zeros_like(density)
    for axis, face in enumerate(faces):
        flux = face * np.diff(density, axis=axis)
        into, out = [slice(None)] * 3, [slice(None)] * 3
        into[axis], out[axis] = slice(None, -1), slice(1, None)
        gain[tuple(into)] += flux
        gain[tuple(out)] -= flux
    return gain
