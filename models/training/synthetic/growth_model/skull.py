"""Paint skull, face, neck, eyes and cavities of a grown head around its brain."""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from models.training.synthetic.fields import Coordinates, Field, below, ellipsoid, refine, smooth_union
from models.training.synthetic.growth_model.head_grid import HeadGrid
from models.training.synthetic.growth_model.proportions import GrownProportions
from models.training.synthetic.growth_model.surfaces import from_ras
from models.training.synthetic.growth_model.tubes import TubePath, tube
from models.training.synthetic.growth_model.voxelise import Mask
from models.training.synthetic.tissue import Tissue, TissueMap

_CLOSING_MM = 16.0
"""The dura bridges clefts narrower than twice this."""
_OUTLINE_MM = 4.5
"""Standard deviation of the filter that smooths the dura."""

_NOSE: TubePath = ((0, 76, -22, 7), (0, 87, -38, 8), (0, 96, -52, 10), (0, 84, -58, 11))
_JAW: TubePath = ((-46, 4, -52, 5), (-46, 8, -86, 6), (-32, 38, -108, 7), (0, 64, -116, 8))
_CHEWING: TubePath = ((-55, 12, -40, 8), (-52, 12, -85, 9))
_CHEEKBONE: TubePath = ((-57, 18, -38, 4), (-48, 42, -42, 6), (-36, 54, -45, 5))
_TONGUE: TubePath = ((0, 8, -95, 17), (0, 35, -85, 19), (0, 52, -84, 13))
_THROAT: TubePath = ((0, 20, -52, 6), (0, 2, -62, 8), (0, -6, -85, 7), (0, -6, -140, 8))
_SPINE: TubePath = ((0, -46, -76, 5), (0, -46, -95, 5), (0, -47, -140, 5))
_OPTIC_NERVE: TubePath = ((-31, 48, -33, 2.2), (-20, 28, -28, 2.2), (-6, 8, -20, 2.4))
_NASAL: TubePath = ((-7, 72, -46, 6), (-7, 40, -46, 8), (-7, 12, -48, 7))
_NASAL_LOW: TubePath = ((-7, 74, -56, 6), (-8, 15, -58, 8))


def dura_distance(brain: Mask, coarse_mm: float, proportions: GrownProportions) -> Field:
    """Return the distance in millimetres to the dura, negative inside, for the voxels of a brain on the coarse grid."""
    outside = np.asarray(distance_transform_edt(~brain)) * coarse_mm
    bridged = outside < _CLOSING_MM
    depth = np.asarray(distance_transform_edt(bridged)) * coarse_mm
    # Negative inside the closed outline; far outside it is the distance to the brain.
    distance = np.where(bridged, _CLOSING_MM - depth, outside)
    smooth = gaussian_filter(distance.astype(np.float32), _OUTLINE_MM / coarse_mm)
    return np.asarray(smooth - proportions.gap_mm, dtype=np.float32)


def paint_shell(
    generator: np.random.Generator, grid: HeadGrid, hull: Field, proportions: GrownProportions
) -> TissueMap:
    """Paint everything outside of the dura, and CSF inside. `hull` is `dura_distance` on the coarse grid."""
    at, fold = grid.at, grid.at.mirrored()
    uneven = grid.coarse_noise(generator, 55)
    skin, outline = refine(_skin(at, hull, proportions, uneven)), refine(hull)
    tissue = np.full(skin.shape, Tissue.AIR, dtype=np.uint8)
    flesh = skin < 0
    tissue[flesh] = Tissue.MUSCLE
    under = flesh & (skin < -1.6)
    thickness = refine((proportions.fat_mm * (1 + 0.3 * uneven)).astype(np.float32))
    marbled = below(-grid.coarse_noise(generator, 16), -0.9)
    tissue[under & ((skin > -1.6 - thickness) | marbled)] = Tissue.FAT
    _paint_face(tissue, flesh, at)
    _paint_cavities(generator, tissue, flesh, grid)
    temporal = below(ellipsoid(fold, from_ras(-66, 5, -12), (11, 26, 34)))
    tissue[temporal & (skin < -3) & (outline > 0)] = Tissue.MUSCLE
    bone = flesh & (outline >= 0) & (outline < proportions.skull_mm)
    tissue[bone] = Tissue.BONE
    half_mm = 0.5 * proportions.skull_mm * proportions.diploe * np.clip(1 + 0.7 * grid.noise(generator, 24), 0, 1.7)
    tissue[bone & (np.abs(outline - proportions.skull_mm / 2) < half_mm)] = Tissue.MARROW
    frontal = below(ellipsoid(fold, from_ras(-13, 72, -6), (11, 6, float(generator.uniform(3, 16)))))
    tissue[frontal & (outline > 1) & (skin < -4)] = Tissue.AIR
    _paint_spine(tissue, flesh, at)
    tissue[outline < 0] = Tissue.CSF
    return tissue


def _skin(at: Coordinates, hull: Field, proportions: GrownProportions, uneven: Field) -> Field:
    scalp = hull - proportions.skull_mm - proportions.fat_mm * np.clip(1 + 0.15 * uneven, 0.6, 1.5) - 3.5
    fold = at.mirrored()
    face = smooth_union(
        ellipsoid(at, from_ras(0, 30, -62), (58, 60, 62)), ellipsoid(at, from_ras(0, 38, -102), (44, 48, 36)), 14
    )
    face = smooth_union(face, tube(at, _NOSE, margin_mm=40), 9)
    x, y, z = at.x, at.y - np.float32(from_ras(0, -30, 0)[1]), at.z - np.float32(from_ras(0, 0, -48)[2])
    neck = np.maximum(np.hypot(x / 1.12, y - 0.15 * z) - 50, z)
    body = smooth_union(face, neck.astype(np.float32), 16)
    head = smooth_union(scalp.astype(np.float32), body, 8)
    ears = ellipsoid(fold, from_ras(-79, -22, -28), (5, 15, 27))
    return np.asarray(np.minimum(head, ears), dtype=np.float32)


def _paint_face(tissue: TissueMap, flesh: Mask, at: Coordinates) -> None:
    """Paint muscles, jaws, cheekbones and orbits, in place."""
    fold = at.mirrored()
    tissue[flesh & below(tube(fold, _CHEWING))] = Tissue.MUSCLE
    tissue[flesh & below(tube(at, _TONGUE))] = Tissue.MUSCLE
    bones = np.minimum(tube(fold, _JAW), tube(fold, _CHEEKBONE))
    tissue[flesh & below(bones)] = Tissue.BONE
    tissue[flesh & below(bones, -2.5)] = Tissue.MARROW
    tissue[flesh & below(ellipsoid(at, from_ras(0, 45, -66), (26, 28, 4)))] = Tissue.BONE  # palate
    orbit = ellipsoid(fold, from_ras(-31, 42, -35), (18, 25, 17))
    tissue[flesh & below(orbit, 1.5)] = Tissue.BONE
    tissue[flesh & below(orbit)] = Tissue.FAT
    straps = ellipsoid(fold, from_ras(-30, 40, -35), (12, 24, 11))
    tissue[flesh & below(straps, 1.2) & ~below(straps, -1.2)] = Tissue.MUSCLE
    tissue[flesh & below(tube(fold, _OPTIC_NERVE))] = Tissue.WHITE
    eyes = ellipsoid(fold, from_ras(-32, 54, -34), (12, 12, 12))
    tissue[below(eyes, 1)] = Tissue.MUSCLE
    tissue[below(eyes)] = Tissue.VITREOUS


def _paint_cavities(generator: np.random.Generator, tissue: TissueMap, flesh: Mask, grid: HeadGrid) -> None:
    """Paint nose, sinuses, throat and mastoid cells, in place: air lined with mucosa."""
    at, fold = grid.at, grid.at.mirrored()
    maxillary = ellipsoid(fold, from_ras(-30, 43, -60), (12, 16, 14))
    sphenoid = ellipsoid(fold, from_ras(-8, 18, -38), (7, 10, 7))
    ethmoid = ellipsoid(fold, from_ras(-8, 45, -36), (6, 20, 9))
    nose = np.minimum(tube(fold, _NASAL), tube(fold, _NASAL_LOW))
    air = np.minimum(np.minimum(maxillary, sphenoid), np.minimum(nose, tube(at, _THROAT)))
    lining_mm = float(generator.uniform(0.8, 3.5))
    hollow = np.minimum(air, ethmoid)
    cells = grid.coarse_noise(generator, 9)
    walls = below(np.abs(cells), 0.3) & below(ethmoid)
    turbinate = below(-grid.coarse_noise(generator, 11), -0.9) & below(nose)
    septum = below(at.x, 1.2) & ~below(at.x, -1.2)
    tissue[flesh & below(hollow, 1)] = Tissue.BONE
    tissue[flesh & below(hollow)] = Tissue.MUCOSA
    tissue[below(hollow, -lining_mm) & ~(septum | walls | turbinate)] = Tissue.AIR
    mastoid = flesh & below(ellipsoid(fold, from_ras(-54, -38, -46), (11, 14, 17)))
    tissue[mastoid] = Tissue.BONE
    tissue[mastoid & below(-cells, 0.2)] = Tissue.AIR


def _paint_spine(tissue: TissueMap, flesh: Mask, at: Coordinates) -> None:
    """Paint spinal cord, its fluid and vertebrae, in place."""
    canal = tube(at, _SPINE, margin_mm=30)
    bodies = ellipsoid(at, from_ras(0, -26, -120), (12, 10, 45))
    tissue[flesh & (below(canal, 9) | below(bodies))] = Tissue.BONE
    tissue[flesh & (below(canal, 7.8) | below(bodies, -2))] = Tissue.MARROW
    tissue[flesh & below(canal, 5.2)] = Tissue.BONE
    tissue[flesh & below(canal, 3.5)] = Tissue.CSF
    tissue[flesh & below(canal)] = Tissue.WHITE
