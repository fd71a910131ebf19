"""Paint the brain of a grown head: cortex from deformed surfaces, deep structures from tubes and ellipsoids.

Positions are RAS millimetres in fsaverage, as in atlases. Those of paired structures are on the left.
"""

import numpy as np
from scipy.ndimage import binary_dilation

from models.training.synthetic.fields import Coordinates, Field, below, ellipsoid, refine, smooth_union
from models.training.synthetic.growth_model.deformation import Deformation
from models.training.synthetic.growth_model.head_grid import HeadGrid
from models.training.synthetic.growth_model.proportions import GrownProportions
from models.training.synthetic.growth_model.surfaces import Hemisphere, average_cortex, from_ras, outward_normals
from models.training.synthetic.growth_model.tubes import TubePath, tube
from models.training.synthetic.growth_model.voxelise import Mask, voxels_inside
from models.training.synthetic.tissue import Tissue, TissueMap
from pipeline.volume import Geometry

_FRONTAL_HORN_TO_OCCIPITAL: TubePath = (
    (-13, 31, 3, 3.5),
    (-10, 16, 14, 5.5),
    (-9, -4, 20, 5.5),
    (-13, -24, 20, 6),
    (-24, -39, 12, 7),
    (-25, -57, 8, 4.5),
    (-22, -72, 6, 2),
)
_TEMPORAL_HORN: TubePath = ((-24, -39, 12, 6), (-33, -30, -6, 3.5), (-33, -15, -16, 3), (-30, -7, -20, 1.5))
_AQUEDUCT: TubePath = ((0, -26, -2, 1.6), (0, -33, -10, 1.3), (0, -41, -22, 1.6))
_CAUDATE: TubePath = ((-12, 20, 4, 5.5), (-13, 8, 14, 5), (-17, -8, 21, 3.5), (-20, -24, 20, 2.5), (-28, -32, 8, 1.8))
_HIPPOCAMPUS: TubePath = ((-22, -4, -19, 6.5), (-27, -13, -19, 5), (-29, -24, -13, 4.5), (-24, -36, -4, 3))
_CALLOSUM: TubePath = (
    (0, 24, -4, 3),
    (0, 29, 6, 4.5),
    (0, 18, 18, 3.5),
    (0, -4, 25, 3),
    (0, -26, 23, 3),
    (0, -38, 12, 5),
)
_STEM: TubePath = (
    (0, -22, -4, 11),
    (0, -25, -14, 13),
    (0, -25, -30, 15),
    (0, -34, -48, 8.5),
    (0, -42, -66, 6.5),
    (0, -46, -95, 5.5),
    (0, -47, -140, 5.5),
)
_PEDUNCLE: TubePath = ((-8, -27, -33, 8), (-19, -48, -37, 6))
_CEREBELLAR_CORE: TubePath = ((-5, -50, -35, 4), (-16, -56, -36, 6), (-30, -62, -38, 3))


def deformed_cortex(deformation: Deformation, proportions: GrownProportions) -> tuple[Hemisphere, Hemisphere]:
    """Return both hemispheres in head coordinates, with the thickness and atrophy of `proportions`."""
    left, right = (_deformed(half, deformation, proportions) for half in average_cortex())
    return left, right


def displaced_cortex(cortex: tuple[Hemisphere, Hemisphere], deformation: Deformation) -> tuple[Hemisphere, Hemisphere]:
    """Return both hemispheres displaced by the masses of `deformation`."""
    left, right = (
        Hemisphere(deformation.displace(half.white), deformation.displace(half.pial), half.triangles) for half in cortex
    )
    return left, right


def _deformed(half: Hemisphere, deformation: Deformation, proportions: GrownProportions) -> Hemisphere:
    pial = half.white + proportions.cortex * (half.pial - half.white)
    back = proportions.atrophy_mm * outward_normals(half.pial, half.triangles)
    # The medial wall, where the surfaces have no cortex, stays in place.
    medial_wall = np.linalg.norm(half.pial - half.white, axis=1, keepdims=True) < 0.3
    back = np.where(medial_wall, 0.0, back)
    white = (
        half.white
        - 0.6 * back
        - proportions.white_mm * np.where(medial_wall, 0.0, outward_normals(half.white, half.triangles))
    )
    return Hemisphere(deformation.to_head(white), deformation.to_head(pial - back), half.triangles)


def fill_cortex(halves: tuple[Hemisphere, Hemisphere], geometry: Geometry) -> tuple[Mask, Mask]:
    """Return the voxels inside the white surfaces and inside the pial surfaces."""
    to_index = np.linalg.inv(geometry.affine)
    masks = []
    for surfaces in ([half.white for half in halves], [half.pial for half in halves]):
        filled = np.zeros(geometry.shape, dtype=bool)
        for corners, half in zip(surfaces, halves, strict=True):
            filled |= voxels_inside(corners @ to_index[:3, :3].T + to_index[:3, 3], half.triangles, geometry.shape)
        masks.append(filled)
    return masks[0], masks[0] | masks[1]


def cerebellum(at: Coordinates) -> Field:
    """Return the distance in millimetres to the cerebellum, negative inside."""
    fold = at.mirrored()
    lobes = ellipsoid(fold, from_ras(-23, -63, -37), (28, 25, 19))
    return smooth_union(lobes, ellipsoid(at, from_ras(0, -61, -30), (11, 23, 21)), 6)


def stem(at: Coordinates) -> Field:
    """Return the distance in millimetres to brain stem and spinal cord, negative inside."""
    return smooth_union(tube(at, _STEM, margin_mm=40), tube(at.mirrored(), _PEDUNCLE), 5)


def ventricles(at: Coordinates, scale: float) -> Field:
    """Return the distance in millimetres to the ventricles, negative inside."""
    fold = at.mirrored()
    lateral = np.minimum(tube(fold, _FRONTAL_HORN_TO_OCCIPITAL, scale), tube(fold, _TEMPORAL_HORN, scale))
    third = ellipsoid(at, from_ras(0, -13, 1), (2.2 * scale, 13, 10))
    fourth = ellipsoid(at, from_ras(0, -42, -31), (6 * scale, 4.5 * scale, 10))
    middle = np.minimum(np.minimum(third, fourth), tube(at, _AQUEDUCT, scale))
    return np.asarray(np.minimum(lateral, middle), dtype=np.float32)


def paint_brain(
    generator: np.random.Generator,
    tissue: TissueMap,
    grid: HeadGrid,
    cortex: tuple[Mask, Mask],
    hull: Field,
    proportions: GrownProportions,
) -> None:
    """Paint white matter, grey matter and fluid inside the dura, in place.

    `cortex` are the voxels inside the white surfaces and inside the pial surfaces, `hull` is the distance to the dura
    in millimetres, negative inside; both are on the fine grid.
    """
    at, (white, pial) = grid.at, cortex
    room = hull < -0.8
    _paint_cerebellum(generator, tissue, grid, room)
    tissue[binary_dilation(pial) & (hull < 0)] = Tissue.CSF
    trunk = below(stem(at)) & (hull < 0)
    tissue[trunk] = Tissue.WHITE
    tissue[pial & room & ~trunk] = Tissue.GREY
    tissue[white & room] = Tissue.WHITE
    callosum = below(tube(at, _CALLOSUM))
    tissue[callosum & room] = Tissue.WHITE
    cleft = pial & ~white & ~callosum & (np.abs(refine(at.x)) < 0.5 + 0.5 * proportions.atrophy_mm)
    tissue[cleft & (refine(at.z) > 0)] = Tissue.CSF
    brain = tissue == Tissue.WHITE
    tissue[brain & below(_nuclei(at))] = Tissue.DEEP_GREY
    tissue[brain & below(tube(at.mirrored(), _HIPPOCAMPUS))] = Tissue.GREY
    wet = below(ventricles(at, proportions.ventricles))
    tissue[wet & room & np.isin(tissue, (Tissue.WHITE, Tissue.DEEP_GREY, Tissue.CSF))] = Tissue.CSF


def _nuclei(at: Coordinates) -> Field:
    fold = at.mirrored()
    lens = np.minimum(
        ellipsoid(fold, from_ras(-25, 3, 1), (5.5, 15, 9)), ellipsoid(fold, from_ras(-18, -4, 0), (4, 8, 6))
    )
    thalamus = ellipsoid(fold, from_ras(-11, -18, 7), (8.5, 14, 8.5))
    return np.asarray(np.minimum(np.minimum(lens, thalamus), tube(fold, _CAUDATE)), dtype=np.float32)


def _paint_cerebellum(generator: np.random.Generator, tissue: TissueMap, grid: HeadGrid, room: Mask) -> None:
    """Paint folia around a white core, in place: nearly flat layers that fan out from the fourth ventricle."""
    at = grid.at
    outline = cerebellum(at)
    _, y0, z0 = from_ras(0, -42, -33)
    angle = np.arctan2(at.z - np.float32(z0), at.y - np.float32(y0)) + 0.07 * grid.coarse_noise(generator, 30)
    folia = np.sin(refine((float(generator.uniform(28, 40)) * angle).astype(np.float32)))
    core = np.minimum(tube(at.mirrored(), _CEREBELLAR_CORE), outline + 13)
    body = room & below(outline)
    tissue[body] = Tissue.GREY
    tissue[body & below(outline, -2.5) & (folia > 0.55)] = Tissue.WHITE
    tissue[body & ~below(outline, -9) & (folia < -0.88)] = Tissue.CSF
    tissue[body & below(core)] = Tissue.WHITE
    dentate = ellipsoid(at.mirrored(), from_ras(-15, -56, -35), (6, 6, 4))
    tissue[body & below(dentate, 0.8) & ~below(dentate, -0.8)] = Tissue.DEEP_GREY
