"""A procedural head: which tissue stands where. Knows shapes and layers; no signals and no scanners.

Every organ is a distance field on a coarse grid (see `fields`), refined and thresholded on the fine one. Proportions
are those of an adult head (brain about 132 x 168 x 130 mm); each head is scaled, turned and bent at random.
"""

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from models.training.fields import (
    REFINEMENT,
    Coordinates,
    Field,
    coarse_coordinates,
    ellipsoid,
    level_distance,
    noise,
    refine,
    smooth_union,
)
from models.training.head_shell import Build, draw_build, paint_shell
from models.training.tissue import Tissue, TissueMap
from models.training.tumour import Focus, TumourFields, Variant, draw_foci, push_aside, tumour_fields
from models.training.vessels import paint_vessels

HEAD_EXTENT_MM = (200, 256, 204)
"""Extent of the grid along S, P, L: from the upper lip's height to above the vertex, air around the biggest heads."""
HEAD_CENTRE_MM = (0.0, -6.0, 4.0)
"""Middle of that extent (x, y, z), seen from the middle of the brain."""


def paint_head(generator: np.random.Generator, variant: Variant, spacing_mm: float) -> TissueMap:
    """A head of `variant` on an axis-aligned LPS grid that covers HEAD_EXTENT_MM around HEAD_CENTRE_MM."""
    shape = (
        round(HEAD_EXTENT_MM[0] / spacing_mm / REFINEMENT) * REFINEMENT,
        round(HEAD_EXTENT_MM[1] / spacing_mm / REFINEMENT) * REFINEMENT,
        round(HEAD_EXTENT_MM[2] / spacing_mm / REFINEMENT) * REFINEMENT,
    )
    build = draw_build(generator)
    place = coarse_coordinates(shape, spacing_mm, HEAD_CENTRE_MM)
    place = _turn_and_bend(generator, place, spacing_mm * REFINEMENT)
    foci = draw_foci(generator, variant)
    displaced = push_aside(place, foci, float(generator.uniform(0.1, 0.45)))
    tissue = _paint(generator, place, displaced, build, spacing_mm)
    if foci:
        fields = tumour_fields(generator, place, foci, spacing_mm * REFINEMENT)
        _paint_tumour(tissue, refine(place.x), refine(callosum(place)), fields, foci)
    return tissue


def _turn_and_bend(generator: np.random.Generator, at: Coordinates, spacing_mm: float) -> Coordinates:
    """Anatomical coordinates of each voxel: an affine and a smooth bend away from the grid's own."""
    turn = Rotation.from_euler("xyz", generator.normal(0, (6, 3, 4)), degrees=True).as_matrix()
    matrix = turn / generator.uniform((0.93, 0.93, 0.93), (1.06, 1.06, 1.06))
    shift = generator.normal(0, 2, size=3)
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    bent = []
    for row in range(3):
        value = matrix[row, 0] * at.x + matrix[row, 1] * at.y + matrix[row, 2] * at.z + shift[row]
        value = value + 2.2 * noise(generator, shape, spacing_mm, 90) + 0.8 * noise(generator, shape, spacing_mm, 40)
        bent.append(value.astype(np.float32))
    return Coordinates(*bent)


def _cerebrum(at: Coordinates) -> Field:
    fold = at.mirrored()
    hemispheres = np.maximum(ellipsoid(fold, (3, 0, 8), (63, 84, 60)), -(at.z + 20 - 0.10 * at.y))
    temporal = ellipsoid(fold, (36, -8, -22), (23, 42, 21))
    return smooth_union(hemispheres.astype(np.float32), temporal, 8)


def _ventricles(at: Coordinates, scale: float) -> Field:
    fold = at.mirrored()
    body = ellipsoid(fold, (11, -6, 13), (6.5 * scale, 33, 8 * scale))
    trigone = ellipsoid(fold, (24, 30, 5), (6 * scale, 17, 9 * scale))
    temporal_horn = ellipsoid(fold, (31, 5, -15), (3 * scale, 16, 3 * scale))
    lateral = smooth_union(smooth_union(body, trigone, 8), temporal_horn, 3)
    third = ellipsoid(at, (0, 2, -3), (2.3 * scale, 13, 9))
    fourth = ellipsoid(at, (0, 33, -40), (6 * scale, 6, 9))
    return np.asarray(np.minimum(lateral, np.minimum(third, fourth)), dtype=np.float32)


def callosum(at: Coordinates) -> Field:
    """Depth in the block where white matter joins the hemispheres; positive inside, millimetres."""
    return np.asarray(np.minimum(25 - at.z, 43 - np.abs(at.y + 2)), dtype=np.float32)


def _sulci(generator: np.random.Generator, at: Coordinates, brain: Field, spacing_mm: float) -> Field:
    """Distance to the nearest sulcus, millimetres: zero crossings of noise that hardly changes with depth."""
    shape = (brain.shape[0], brain.shape[1], brain.shape[2])
    folds = noise(generator, shape, spacing_mm, float(generator.uniform(18, 24)), band=0.25)
    depth_map = 11 + 4 * noise(generator, shape, spacing_mm, 40)
    # Looking the noise up near the surface along the ray from the middle makes walls instead of blobs.
    radius = np.sqrt((at.x / 66) ** 2 + (at.y / 84) ** 2 + ((at.z - 8) / 60) ** 2)
    stretch = np.maximum(radius, 0.25) ** -0.75
    middle = [(size - 1) / 2 for size in shape]
    where = [(value * stretch) / spacing_mm + m for value, m in zip((at.z, at.y, at.x), middle, strict=True)]
    walls = map_coordinates(folds, np.stack(where), order=1, mode="grid-wrap")
    along = np.abs(level_distance(walls, spacing_mm))
    below = np.maximum(0, -brain - np.maximum(depth_map, 3))
    return np.asarray(np.hypot(along, below), dtype=np.float32)


def _paint(
    generator: np.random.Generator, outer: Coordinates, at: Coordinates, build: Build, spacing_mm: float
) -> TissueMap:
    """All tissues but the tumour. `outer` places skull and skin, `at` the brain that a tumour has pushed aside."""
    coarse_mm = spacing_mm * REFINEMENT
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    cerebrum = _cerebrum(at)
    cerebellum = ellipsoid(at, (0, 46, -43), (50, 32, 25))
    stem = ellipsoid(at, (0, 17, -45), (12, 13, 42))
    outer_brain = smooth_union(
        smooth_union(_cerebrum(outer), ellipsoid(outer, (0, 46, -43), (50, 32, 25)), 12),
        ellipsoid(outer, (0, 17, -45), (12, 13, 42)),
        10,
    )
    tissue = paint_shell(generator, outer, refine(outer_brain) - build.gap_mm, build, coarse_mm)
    hull = refine(outer_brain) - build.gap_mm
    inside = hull < -0.8

    sulci = refine(_sulci(generator, at, cerebrum, coarse_mm))
    surface = -refine(cerebrum)
    fissure = refine(np.hypot(at.x, np.maximum(0, callosum(at))).astype(np.float32))
    to_csf = np.minimum(surface, np.minimum(sulci, fissure)) - build.sulcus_half_width_mm
    parenchyma = (surface > 0) & inside

    folia = np.abs(refine(level_distance(noise(generator, shape, coarse_mm, 9), coarse_mm)))
    inner_cerebellum = refine(cerebellum)
    tissue[inside & (inner_cerebellum < 0)] = Tissue.GREY
    tissue[inside & (inner_cerebellum < -3) & (folia > 1.0)] = Tissue.WHITE
    tissue[inside & (inner_cerebellum < 0) & (inner_cerebellum > -14) & (folia < 0.35)] = Tissue.CSF
    tissue[inside & (refine(stem) < 0)] = Tissue.WHITE
    tissue[parenchyma] = Tissue.WHITE
    tissue[parenchyma & (to_csf < build.cortex_mm)] = Tissue.GREY
    tissue[parenchyma & (to_csf < 0)] = Tissue.CSF
    _paint_deep(generator, tissue, at, build, coarse_mm)
    paint_vessels(generator, tissue, outer, refine(callosum(outer)), hull, coarse_mm)
    return tissue


def _paint_deep(
    generator: np.random.Generator, tissue: TissueMap, at: Coordinates, build: Build, coarse_mm: float
) -> None:
    """Deep grey matter, ventricles with plexus, and age changes of the white matter, in place."""
    fold = at.mirrored()
    shape = (at.x.shape[0], at.x.shape[1], at.x.shape[2])
    brain = (tissue == Tissue.WHITE) | (tissue == Tissue.GREY)
    nuclei = np.minimum(
        np.minimum(ellipsoid(fold, (11, 9, 0), (8, 14, 8)), ellipsoid(fold, (27, -5, 2), (6, 18, 10))),
        ellipsoid(fold, (14, -20, 7), (5, 11, 9)),
    )
    tissue[brain & (refine(nuclei) < 0)] = Tissue.DEEP_GREY
    ventricles = refine(_ventricles(at, build.ventricle_scale))
    spots = refine(noise(generator, shape, coarse_mm, 13, band=0.4) + 0.5 * noise(generator, shape, coarse_mm, 35))
    caps = build.cap_mm * (1 + refine(noise(generator, shape, coarse_mm, 20)))
    white = (tissue == Tissue.WHITE) & (refine(at.z) > -25)
    tissue[white & ((spots > build.spot_level) | (ventricles < caps))] = Tissue.SPOT
    wet = (ventricles < 0) & (brain | (tissue == Tissue.CSF))
    tissue[wet] = Tissue.CSF
    tissue[wet & (refine(ellipsoid(fold, (20, 24, 5), (2.5, 9, 3))) < 0)] = Tissue.CHOROID


def _paint_tumour(tissue: TissueMap, x: Field, callosum: Field, fields: TumourFields, foci: tuple[Focus, ...]) -> None:
    """The tumour over the brain, in place: oedema in white matter, then infiltration, rim and necrosis."""
    brain = np.isin(tissue, (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY, Tissue.SPOT))
    # Tumour stays in brain tissue: sulci, ventricles and vessels keep what they hold.
    sides = {np.sign(focus.centre[0]) for focus in foci}
    reachable = np.ones(tissue.shape, dtype=bool)
    if len(sides) == 1:
        # The falx stops growth to the other side; the corpus callosum does not.
        reachable = (np.sign(x) == sides.pop()) | ((callosum > 2) & (np.abs(x) < 25))
    white = np.isin(tissue, (Tissue.WHITE, Tissue.SPOT))
    tissue[white & reachable & (refine(fields.oedema) < 0)] = Tissue.OEDEMA
    invaded = brain & reachable
    tissue[invaded & (refine(fields.infiltration) < 0)] = Tissue.NON_ENHANCING
    core = refine(fields.core) < 0
    tissue[invaded & core] = Tissue.ENHANCING
    tissue[invaded & core & (refine(fields.necrosis) < 0)] = Tissue.NECROSIS
