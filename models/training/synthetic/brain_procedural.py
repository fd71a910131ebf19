"""Paint a brain from distance fields: cortex folded by noise, organs as ellipsoids.

The brain has the size of an adult's, about 132 x 168 x 130 mm.
"""

import numpy as np
from scipy.ndimage import map_coordinates

from models.training.synthetic.brain_details import callosum, paint_age_changes, paint_vessels
from models.training.synthetic.fields import (
    REFINEMENT,
    Coordinates,
    Field,
    ellipsoid,
    level_distance,
    noise,
    refine,
    smooth_union,
)
from models.training.synthetic.skull_and_face import PaintedProportions, paint_shell
from models.training.synthetic.tissue import Tissue, TissueMap


def _cerebrum(at: Coordinates) -> Field:
    fold = at.mirrored()
    hemispheres = np.maximum(ellipsoid(fold, (3, 0, 8), (63, 84, 60)), -(at.z + 20 - 0.10 * at.y))
    temporal = ellipsoid(fold, (36, -8, -22), (23, 42, 21))
    return smooth_union(hemispheres.astype(np.float32), temporal, 8)


def _cerebellum(at: Coordinates) -> Field:
    return ellipsoid(at, (0, 46, -43), (50, 32, 25))


def _stem(at: Coordinates) -> Field:
    return ellipsoid(at, (0, 17, -45), (12, 13, 42))


def _ventricles(at: Coordinates, scale: float) -> Field:
    fold = at.mirrored()
    body = ellipsoid(fold, (11, -6, 13), (6.5 * scale, 33, 8 * scale))
    trigone = ellipsoid(fold, (24, 30, 5), (6 * scale, 17, 9 * scale))
    temporal_horn = ellipsoid(fold, (31, 5, -15), (3 * scale, 16, 3 * scale))
    lateral = smooth_union(smooth_union(body, trigone, 8), temporal_horn, 3)
    third = ellipsoid(at, (0, 2, -3), (2.3 * scale, 13, 9))
    fourth = ellipsoid(at, (0, 33, -40), (6 * scale, 6, 9))
    return np.asarray(np.minimum(lateral, np.minimum(third, fourth)), dtype=np.float32)


def _sulci(generator: np.random.Generator, at: Coordinates, brain: Field, spacing_mm: float) -> Field:
    """Return the distance in millimetres to the nearest sulcus: zeros of noise that varies little with depth."""
    folds = noise(generator, at.x.shape, spacing_mm, float(generator.uniform(18, 24)), band=0.25)
    depth_map = 11 + 4 * noise(generator, at.x.shape, spacing_mm, 40)
    # Sampling the noise near the surface, along the ray from the middle, makes walls instead of blobs.
    radius = np.sqrt((at.x / 66) ** 2 + (at.y / 84) ** 2 + ((at.z - 8) / 60) ** 2)
    stretch = np.maximum(radius, 0.25) ** -0.75
    middle = [(size - 1) / 2 for size in at.x.shape]
    where = [(value * stretch) / spacing_mm + m for value, m in zip((at.z, at.y, at.x), middle, strict=True)]
    walls = map_coordinates(folds, np.stack(where), order=1, mode="grid-wrap")
    along = np.abs(level_distance(walls, spacing_mm))
    below = np.maximum(0, -brain - np.maximum(depth_map, 3))
    return np.asarray(np.hypot(along, below), dtype=np.float32)


def paint_procedural_brain(
    generator: np.random.Generator,
    outer: Coordinates,
    at: Coordinates,
    proportions: PaintedProportions,
    spacing_mm: float,
) -> TissueMap:
    """Paint all tissues of a head except the tumour.

    `outer` are the coordinates for skull and skin, `at` those for the brain, displaced by the mass effect.
    """
    coarse_mm = spacing_mm * REFINEMENT
    cerebrum = _cerebrum(at)
    outer_brain = smooth_union(smooth_union(_cerebrum(outer), _cerebellum(outer), 12), _stem(outer), 10)
    hull = refine(outer_brain) - proportions.gap_mm
    tissue = paint_shell(generator, outer, hull, proportions, coarse_mm)
    inside = hull < -0.8

    sulci = refine(_sulci(generator, at, cerebrum, coarse_mm))
    surface = -refine(cerebrum)
    fissure = refine(np.hypot(at.x, np.maximum(0, callosum(at))).astype(np.float32))
    to_csf = np.minimum(surface, np.minimum(sulci, fissure)) - proportions.sulcus_half_width_mm
    parenchyma = (surface > 0) & inside

    folia = np.abs(refine(level_distance(noise(generator, at.x.shape, coarse_mm, 9), coarse_mm)))
    inner_cerebellum = refine(_cerebellum(at))
    tissue[inside & (inner_cerebellum < 0)] = Tissue.GREY
    tissue[inside & (inner_cerebellum < -3) & (folia > 1.0)] = Tissue.WHITE
    tissue[inside & (inner_cerebellum < 0) & (inner_cerebellum > -14) & (folia < 0.35)] = Tissue.CSF
    tissue[inside & (refine(_stem(at)) < 0)] = Tissue.WHITE
    tissue[parenchyma] = Tissue.WHITE
    tissue[parenchyma & (to_csf < proportions.cortex_mm)] = Tissue.GREY
    tissue[parenchyma & (to_csf < 0)] = Tissue.CSF
    _paint_deep(generator, tissue, at, proportions, coarse_mm)
    paint_vessels(generator, tissue, outer, refine(callosum(outer)), hull, coarse_mm)
    return tissue


def _paint_deep(
    generator: np.random.Generator,
    tissue: TissueMap,
    at: Coordinates,
    proportions: PaintedProportions,
    coarse_mm: float,
) -> None:
    """Paint deep grey matter, ventricles with plexus, and age changes of the white matter, in place."""
    fold = at.mirrored()
    brain = (tissue == Tissue.WHITE) | (tissue == Tissue.GREY)
    nuclei = np.minimum(
        np.minimum(ellipsoid(fold, (11, 9, 0), (8, 14, 8)), ellipsoid(fold, (27, -5, 2), (6, 18, 10))),
        ellipsoid(fold, (14, -20, 7), (5, 11, 9)),
    )
    tissue[brain & (refine(nuclei) < 0)] = Tissue.DEEP_GREY
    ventricles = refine(_ventricles(at, proportions.ventricle_scale))
    paint_age_changes(generator, tissue, at, ventricles, proportions, coarse_mm)
    wet = (ventricles < 0) & (brain | (tissue == Tissue.CSF))
    tissue[wet] = Tissue.CSF
    tissue[wet & (refine(ellipsoid(fold, (20, 24, 5), (2.5, 9, 3))) < 0)] = Tissue.CHOROID
