"""Paint skull, face, neck, eyes and cavities around a procedural or template brain."""

from dataclasses import dataclass

import numpy as np

from models.training.synthetic.fields import Coordinates, Field, ellipsoid, noise, refine, smooth_union
from models.training.synthetic.tissue import Tissue, TissueMap


@dataclass(frozen=True, slots=True)
class PaintedProportions:
    """Random proportions of a head of the families PAINTED and TEMPLATE."""

    atrophy: float
    """From 0, a young brain, to 1, a brain with wide sulci and ventricles."""
    sulcus_half_width_mm: float
    cortex_mm: float
    gap_mm: float
    """CSF between brain and dura."""
    skull_mm: float
    fat_mm: float
    ventricle_scale: float
    spot_level: float
    """Noise level in standard deviations above which white matter is a spot."""
    cap_mm: float
    """Thickness of the bright caps around the ventricles."""


def draw_proportions(generator: np.random.Generator) -> PaintedProportions:
    """Draw the proportions of an adult. Atrophy widens sulci, ventricles and the space around the brain together."""
    atrophy = float(generator.uniform(0, 1))
    return PaintedProportions(
        atrophy=atrophy,
        sulcus_half_width_mm=0.35 + 0.75 * atrophy,
        cortex_mm=float(generator.uniform(2.3, 3.0)),
        gap_mm=1.5 + 3.0 * atrophy,
        skull_mm=float(generator.uniform(4.5, 8)),
        fat_mm=float(generator.uniform(2, 6)),
        ventricle_scale=float(generator.uniform(0.75, 1.1)) + 0.25 * atrophy,
        spot_level=float(generator.uniform(1.9, 4.0)),
        cap_mm=float(generator.uniform(0, 2.5)) * float(generator.random() < 0.6),
    )


def paint_shell(
    generator: np.random.Generator, at: Coordinates, hull: Field, proportions: PaintedProportions, coarse_mm: float
) -> TissueMap:
    """Paint everything outside of the dura, and CSF inside.

    `hull` is the distance to the dura in millimetres on the fine grid, negative inside. `at` and `coarse_mm` describe
    the coarse grid.
    """
    fold = at.mirrored()
    patchy = refine(noise(generator, at.x.shape, coarse_mm, 28))
    scalp = hull - proportions.skull_mm - proportions.fat_mm * np.clip(1 + 0.25 * patchy, 0.5, 1.6) - 4
    face = ellipsoid(at, (0, -52, -58), (62, 52, 72))
    nose = ellipsoid(at, (0, -104, -52), (12, 14, 20))
    neck = np.hypot(at.x / 1.1, at.y - 18) - 52 + 8 * (at.z > -45)
    body = smooth_union(face, nose, 8)
    below = smooth_union(body, np.maximum(neck, at.z + 42).astype(np.float32), 14)
    skin = np.minimum(scalp, refine(below))
    tissue = np.full(hull.shape, Tissue.AIR, dtype=np.uint8)
    flesh = skin < 0
    tissue[flesh] = Tissue.MUSCLE
    tissue[flesh & (skin < -1.8) & ((skin > -1.8 - proportions.fat_mm) | (patchy > 0.8))] = Tissue.FAT
    tissue[flesh & (skin < -10) & (patchy < -1.1) & (refine(at.y) < 0)] = Tissue.BONE
    cord = np.hypot(at.x, at.y - 22)
    spine = refine(np.where(at.z < -62, cord, 99).astype(np.float32))
    for outer_mm, kind in ((20, Tissue.MARROW), (12, Tissue.BONE), (9, Tissue.CSF), (5, Tissue.WHITE)):
        tissue[flesh & (spine < outer_mm)] = kind
    eyes = refine(ellipsoid(fold, (32, -78, -30), (12, 12, 12)))
    tissue[flesh & (eyes < 8)] = Tissue.FAT
    tissue[eyes < 0] = Tissue.VITREOUS
    cavities = np.minimum(ellipsoid(fold, (8, -72, -54), (7, 26, 15)), ellipsoid(fold, (30, -72, -60), (11, 14, 13)))
    cavities = np.minimum(cavities, ellipsoid(at, (0, -20, -88), (11, 9, 24)))
    cavities = np.minimum(cavities, ellipsoid(fold, (13, -86, -8), (10, 6, 10)))
    hollow = refine(cavities)
    tissue[flesh & (hollow < 2)] = Tissue.MUCOSA
    tissue[hollow < 0] = Tissue.AIR
    shell = (hull >= 0) & (hull < proportions.skull_mm)
    tissue[shell] = Tissue.BONE
    middle = np.abs(hull - proportions.skull_mm / 2)
    tissue[shell & (middle < 0.22 * proportions.skull_mm * np.clip(1 + patchy, 0, 2))] = Tissue.MARROW
    tissue[shell & (hollow < 0) & (hull > 2)] = Tissue.AIR
    tissue[hull < 0] = Tissue.CSF
    return tissue
