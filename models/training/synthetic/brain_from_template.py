"""A brain cut from the average brain's tissue maps (see `template`), every head by thresholds of its own."""

import numpy as np

from models.training.synthetic.fields import REFINEMENT, Coordinates, ellipsoid, noise, refine
from models.training.synthetic.mni_template import look_up
from models.training.synthetic.skull_and_face import PaintedProportions, paint_shell
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.vessels import paint_vessels
from models.training.synthetic.white_matter import callosum, paint_age_changes


def paint_template_brain(
    generator: np.random.Generator,
    outer: Coordinates,
    at: Coordinates,
    proportions: PaintedProportions,
    spacing_mm: float,
) -> TissueMap:
    """All tissues of a head but the tumour.

    `outer` places skull and skin, `at` the brain that a tumour has pushed aside.
    Raises TemplateMissing where nilearn is not installed.
    """
    coarse_mm = spacing_mm * REFINEMENT
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    hull = refine(look_up(outer).hull) - proportions.gap_mm
    tissue = paint_shell(generator, outer, hull, proportions, coarse_mm)
    inside = hull < -0.8
    maps = look_up(Coordinates(refine(at.x), refine(at.y), refine(at.z)))
    uneven = refine(noise(generator, shape, coarse_mm, 14))
    # Averaging over people has blurred the sulci: where fluid has a third of a voxel, one person has a sulcus or none.
    solid = 0.66 + 0.12 * proportions.atrophy + float(generator.uniform(-0.05, 0.05)) + 0.05 * uneven
    brain = inside & (maps.grey + maps.white > solid)
    whiter = float(np.exp(generator.normal(0, 0.2))) * (1 + 0.12 * uneven)
    tissue[brain] = Tissue.GREY
    tissue[brain & (maps.white > whiter * maps.grey)] = Tissue.WHITE
    fold = at.mirrored()
    central = refine(ellipsoid(fold, (15, 2, 0), (24, 34, 18))) < 0
    tissue[brain & central & (tissue == Tissue.GREY)] = Tissue.DEEP_GREY
    paint_age_changes(generator, tissue, at, maps.ventricles, proportions, coarse_mm)
    wet = inside & (maps.ventricles < -0.5) & (tissue == Tissue.CSF)
    tissue[wet & (refine(ellipsoid(fold, (20, 22, 6), (5, 12, 6))) < 0) & (uneven > 0)] = Tissue.CHOROID
    paint_vessels(generator, tissue, outer, refine(callosum(outer)), hull, coarse_mm)
    return tissue
