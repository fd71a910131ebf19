"""What white matter is to others: a bridge between the hemispheres, and a place of age changes."""

import numpy as np

from models.training.synthetic.fields import Coordinates, Field, noise, refine
from models.training.synthetic.skull_and_face import PaintedProportions
from models.training.synthetic.tissue import Tissue, TissueMap


def callosum(at: Coordinates) -> Field:
    """Depth in the block where white matter joins the hemispheres; positive inside, millimetres."""
    return np.asarray(np.minimum(25 - at.z, 43 - np.abs(at.y + 2)), dtype=np.float32)


def paint_age_changes(
    generator: np.random.Generator,
    tissue: TissueMap,
    at: Coordinates,
    ventricles: Field,
    proportions: PaintedProportions,
    coarse_mm: float,
) -> None:
    """Caps around the ventricles and spots in the white matter, bright on FLAIR as tumours are; in place.

    `ventricles` is the distance to them on the fine grid, millimetres; `at` belongs to the coarse one.
    """
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    spots = refine(noise(generator, shape, coarse_mm, 13, band=0.4) + 0.5 * noise(generator, shape, coarse_mm, 35))
    caps = proportions.cap_mm * (1 + refine(noise(generator, shape, coarse_mm, 20)))
    white = (tissue == Tissue.WHITE) & (refine(at.z) > -25)
    tissue[white & ((spots > proportions.spot_level) | (ventricles < caps))] = Tissue.SPOT
