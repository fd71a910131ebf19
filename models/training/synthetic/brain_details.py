"""Paint what procedural and template brains have in common: vessels, dura, pituitary gland, and age changes."""

import numpy as np

from models.training.synthetic.fields import Coordinates, Field, ellipsoid, level_distance, noise, refine
from models.training.synthetic.skull_and_face import PaintedProportions
from models.training.synthetic.tissue import Tissue, TissueMap


def callosum(at: Coordinates) -> Field:
    """Return the depth in millimetres inside the block where white matter connects the hemispheres."""
    return np.asarray(np.minimum(25 - at.z, 43 - np.abs(at.y + 2)), dtype=np.float32)


def paint_age_changes(
    generator: np.random.Generator,
    tissue: TissueMap,
    at: Coordinates,
    ventricles: Field,
    proportions: PaintedProportions,
    coarse_mm: float,
) -> None:
    """Paint caps around the ventricles and spots in the white matter, in place. Both are bright on FLAIR like tumours.

    `ventricles` is the distance to the ventricles in millimetres on the fine grid; `at` is on the coarse grid.
    """
    spots = refine(
        noise(generator, at.x.shape, coarse_mm, 13, band=0.4) + 0.5 * noise(generator, at.x.shape, coarse_mm, 35)
    )
    caps = proportions.cap_mm * (1 + refine(noise(generator, at.x.shape, coarse_mm, 20)))
    white = (tissue == Tissue.WHITE) & (refine(at.z) > -25)
    tissue[white & ((spots > proportions.spot_level) | (ventricles < caps))] = Tissue.SPOT


def paint_vessels(
    generator: np.random.Generator, tissue: TissueMap, at: Coordinates, callosum: Field, hull: Field, coarse_mm: float
) -> None:
    """Paint vessels, venous sinuses, dura, falx and pituitary gland, in place: they enhance without being tumour.

    `callosum`, as returned by the function, and `hull`, the distance to the dura in millimetres (negative inside), are
    on the fine grid; `at` is on the coarse grid.
    """
    wet = (tissue == Tissue.CSF) & (hull < -0.8)
    radius = float(generator.uniform(0.6, 1.3))
    for wavelength, where in ((26, wet), (34, wet), (40, tissue == Tissue.WHITE)):
        pair = [level_distance(noise(generator, at.x.shape, coarse_mm, wavelength), coarse_mm) for _ in range(2)]
        tube = refine(np.hypot(pair[0], pair[1]).astype(np.float32))
        # Perforating veins in the white matter are thinner than the vessels of the surface.
        tissue[where & (tube < (radius if where is wet else 0.35 * radius))] = Tissue.VESSEL
    x, y, z = refine(at.x), refine(at.y), refine(at.z)
    dura_mm = 0.9 + 0.5 * refine(noise(generator, at.x.shape, coarse_mm, 50))
    tissue[(hull < 0) & (hull > -dura_mm) & (tissue != Tissue.VESSEL)] = Tissue.DURA
    midline = wet & (np.abs(x) < 0.7) & (callosum < -6) & (z > 0)
    tissue[midline & (tissue == Tissue.CSF)] = Tissue.DURA
    near_dura = (hull < -0.5) & (hull > -5.5) & (tissue != Tissue.AIR)
    tissue[near_dura & (np.abs(x) < 3.5) & (z > -10) & (y > -75)] = Tissue.VESSEL
    tissue[near_dura & (np.abs(z + 22) < 3) & (y > 35)] = Tissue.VESSEL
    tissue[refine(ellipsoid(at, (0, -16, -33), (6, 5, 4))) < 0] = Tissue.MUCOSA
