"""A tumour as a density of cells that divide and wander: the Fisher-Kolmogorov equation. Knows no variants.

    du/dt = div(D grad u) + rho u (1 - u)

with D larger in white than in grey matter and none in fluid (Swanson et al. 2000; Clatz et al. 2005), in units of the
cells' doubling: rho is about 1, so that the square root of D is the front's width in millimetres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from models.training.synthetic.fields import Field
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.voxelise import Mask

_STABLE = 0.15
"""Largest D dt / h^2 of the explicit scheme, below its limit of 1/6."""
_LONGEST_STEP = 0.25
_MOST_STEPS = 1500
_STILL = 1e-4
"""No density changes by more in a step: all room is taken."""
_FEWEST = 1e-30
"""A density below this is none: no cell has come so far."""
UNREACHED = -1e3
"""Logit where there is no density."""


@dataclass(frozen=True, slots=True)
class GrowthParameters:
    """How a tumour grows."""

    width_mm: float
    """Square root of D / rho in white matter."""
    grey_share: float
    """D in grey matter, relative to that in white."""
    level: float
    """Density at which tissue counts as the tumour's core."""


def grow(
    white: Field, grey: Field, pace: Field, seeds: Points, growth: GrowthParameters, volume_mm3: float, mm: float
) -> Field:
    """Logit of the density, ln(u / (1 - u)), when the core has reached its volume, or its room is full.

    `white` and `grey` are shares of each voxel, `pace` is rho there (around 1), `mm` the voxel's edge. Seeds are in
    index units and must lie in tissue. The logit falls off evenly on both sides of the front, which makes it fit to be
    refined; outside tissue it is that of the nearest tissue.
    """
    box = _room(white.shape, seeds, reach_mm=2.2 * np.cbrt(volume_mm3) + 12 * growth.width_mm + 30, mm=mm)
    tissue = white[box] + grey[box]
    mobility = white[box] + growth.grey_share * grey[box]
    spread = np.where(tissue > 0.5, growth.width_mm**2 * mobility, 0).astype(np.float32)
    step = min(_LONGEST_STEP, _STABLE * mm**2 / max(float(spread.max()), 1e-6))
    faces = [_harmonic(spread, axis) * np.float32(step / mm**2) for axis in range(3)]
    division = (pace[box] * (tissue > 0.5) * step).astype(np.float32)
    density = np.zeros(tissue.shape, dtype=np.float32)
    for seed in np.round(seeds).astype(int) - [part.start for part in box]:
        density[tuple(seed)] = 0.9
    wanted = volume_mm3 / mm**3
    for _ in range(_MOST_STEPS):
        change = division * density * (1 - density) + _spread(density, faces)
        density = density + change
        if np.count_nonzero(density > growth.level) >= wanted or float(np.abs(change).max()) < _STILL:
            break
    some = np.clip(density, _FEWEST, 1 - 1e-6)
    within = np.where(density > _FEWEST, np.log(some / (1 - some)), UNREACHED)
    nearest = distance_transform_edt(tissue <= 0.5, return_distances=False, return_indices=True)
    logit = np.full(white.shape, UNREACHED, dtype=np.float32)
    logit[box] = within[tuple(nearest)]
    return logit


def level_at(logit: Field, core: Mask, where: Mask, reach_mm: float, mm: float) -> float:
    """The logit that is typical `reach_mm` outside the core (inside, if negative) among the voxels of `where`.

    A level set there follows what the cells followed, and lies at that distance on the average. Where no voxel is so
    far away the answer is infinite: nothing reaches that level.
    """
    around = _box_of(core, round(abs(reach_mm) / mm) + 3)
    inside = core[around]
    away = np.where(
        inside, 0.5 - np.asarray(distance_transform_edt(inside)), np.asarray(distance_transform_edt(~inside)) - 0.5
    )
    ring = where[around] & (np.abs(away * mm - reach_mm) <= 0.75 * mm) & (logit[around] > UNREACHED)
    return float(np.median(logit[around][ring])) if ring.any() else np.inf


def _room(shape: tuple[int, ...], seeds: Points, reach_mm: float, mm: float) -> tuple[slice, slice, slice]:
    reach = reach_mm / mm
    low = np.maximum(np.floor(seeds.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(seeds.max(axis=0) + reach) + 1, shape).astype(int)
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _box_of(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    places = np.argwhere(mask)
    low, high = np.maximum(places.min(axis=0) - margin, 0), places.max(axis=0) + margin + 1
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _harmonic(spread: Field, axis: int) -> Field:
    """D on the faces between neighbours along an axis: none where either has none."""
    a, b = np.moveaxis(spread, axis, 0)[:-1], np.moveaxis(spread, axis, 0)[1:]
    return np.asarray(np.moveaxis(2 * a * b / np.maximum(a + b, 1e-9), 0, axis), dtype=np.float32)


def _spread(density: Field, faces: list[Field]) -> Field:
    """What diffusion brings to each voxel in a step; what leaves one arrives in its neighbour."""
    gain = np.zeros_like(density)
    for axis, face in enumerate(faces):
        flux = face * np.diff(density, axis=axis)
        into, out = [slice(None)] * 3, [slice(None)] * 3
        into[axis], out[axis] = slice(None, -1), slice(1, None)
        gain[tuple(into)] += flux
        gain[tuple(out)] -= flux
    return gain
