"""What takes up contrast in a synthetic head without being tumour: vessels, venous sinuses, dura, falx, pituitary."""

import numpy as np

from models.training.synthetic.fields import Coordinates, Field, ellipsoid, level_distance, noise, refine
from models.training.synthetic.tissue import Tissue, TissueMap


def paint_vessels(
    generator: np.random.Generator, tissue: TissueMap, at: Coordinates, callosum: Field, hull: Field, coarse_mm: float
) -> None:
    """Paint them in place.

    `callosum` and `hull` are on the fine grid, in millimetres: depth in the block where the hemispheres join (see
    `anatomy.callosum`) and distance to the dura, negative inside.
    """
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    wet = (tissue == Tissue.CSF) & (hull < -0.8)
    radius = float(generator.uniform(0.6, 1.3))
    for wavelength, where in ((26, wet), (34, wet), (40, tissue == Tissue.WHITE)):
        pair = [level_distance(noise(generator, shape, coarse_mm, wavelength), coarse_mm) for _ in range(2)]
        tube = refine(np.hypot(pair[0], pair[1]).astype(np.float32))
        # Perforating veins in the white matter are thinner than the vessels of the surface.
        tissue[where & (tube < (radius if where is wet else 0.35 * radius))] = Tissue.VESSEL
    x, y, z = refine(at.x), refine(at.y), refine(at.z)
    dura_mm = 0.9 + 0.5 * refine(noise(generator, shape, coarse_mm, 50))
    tissue[(hull < 0) & (hull > -dura_mm) & (tissue != Tissue.VESSEL)] = Tissue.DURA
    midline = wet & (np.abs(x) < 0.7) & (callosum < -6) & (z > 0)
    tissue[midline & (tissue == Tissue.CSF)] = Tissue.DURA
    near_dura = (hull < -0.5) & (hull > -5.5) & (tissue != Tissue.AIR)
    tissue[near_dura & (np.abs(x) < 3.5) & (z > -10) & (y > -75)] = Tissue.VESSEL
    tissue[near_dura & (np.abs(z + 22) < 3) & (y > 35)] = Tissue.VESSEL
    tissue[refine(ellipsoid(at, (0, -16, -33), (6, 5, 4))) < 0] = Tissue.MUCOSA
