"""Paint vessels, dura, plexus, pituitary gland, spots and caps of a grown head, which a model may take for tumour."""

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from models.training.synthetic.fields import Field, below, ellipsoid, refine
from models.training.synthetic.growth_model.brain import ventricles
from models.training.synthetic.growth_model.head_grid import HeadGrid
from models.training.synthetic.growth_model.proportions import GrownProportions
from models.training.synthetic.growth_model.surfaces import Points, average_cortex, from_ras, outward_normals
from models.training.synthetic.growth_model.tubes import TubePath, beads, curve
from models.training.synthetic.growth_model.voxelise import Mask
from models.training.synthetic.tissue import Tissue, TissueMap

_PAIRED: tuple[TubePath, ...] = (
    ((-14, -8, -52, 2.4), (-11, 0, -30, 2.4), (-9, 4, -20, 2.0), (-6, 3, -13, 1.6)),  # internal carotid
    ((-6, 3, -13, 1.4), (-20, 4, -14, 1.3), (-37, 2, -10, 1.1), (-43, -8, 2, 1.0), (-46, -24, 14, 0.7)),  # middle
    ((-4, 4, -12, 1.1), (-1.5, 26, -6, 1.0), (-1.5, 38, 12, 0.9), (-1.5, 22, 31, 0.8), (-1.5, 0, 37, 0.6)),  # anterior
    (
        (0, -11, -16, 1.2),
        (-12, -20, -14, 1.1),
        (-20, -32, -8, 0.9),
        (-14, -55, -2, 0.8),
        (-10, -75, 2, 0.6),
    ),  # posterior
    ((-3, -2, 14, 0.8), (-2.5, -22, 15, 1.0), (-1.5, -38, 9, 1.3), (0, -46, 4, 1.8)),  # internal cerebral vein
)
_SINGLE: tuple[TubePath, ...] = (
    ((0, -9, -52, 1.5), (0, -8, -32, 1.7), (0, -10, -16, 1.5)),  # basilar artery
    ((0, -44, 6, 2.0), (0, -62, 2, 2.2), (0, -82, -8, 2.6)),  # vein of Galen and straight sinus
)
_PLEXUS: TubePath = ((-21, -35, 15, 2.2), (-24, -40, 10, 3.0), (-29, -34, 0, 2.0), (-33, -26, -9, 1.2))
_MIRROR = np.array((-1.0, 1.0, 1.0))


def paint_details(
    generator: np.random.Generator, tissue: TissueMap, grid: HeadGrid, hull: Field, proportions: GrownProportions
) -> None:
    """Paint all details in place. `hull` is the distance to the dura on the fine grid (mm, negative inside)."""
    _paint_age_changes(generator, tissue, grid, proportions)
    x, y, z = refine(grid.at.x), refine(grid.at.y), refine(grid.at.z)
    wet = (tissue == Tissue.CSF) & (hull < 0)
    falx = (np.abs(x) < 0.7) & (z > 18 + 0.0025 * y**2) & (hull > -45)
    _, behind, tent = from_ras(0, -45, -14)
    tent_height = z - tent + 0.2 * np.abs(x)
    shelf = (np.abs(tent_height) < 1.0) & (y > behind) & (np.abs(x) < 45)
    dura_mm = 0.8 + 0.5 * grid.noise(generator, 45)
    tissue[wet & (falx | shelf | (hull > -dura_mm))] = Tissue.DURA
    shell = (hull < 0) & (hull > -4.5 - 2 * proportions.vessel_mm)
    sagittal = (np.abs(x) < 3 + proportions.vessel_mm) & (z > tent) & (y > from_ras(0, 60, 0)[1])
    transverse = (np.abs(z - tent + 4) < 2.6 + proportions.vessel_mm) & (y > behind)
    tissue[shell & (sagittal | transverse)] = Tissue.VESSEL
    fluid = np.isin(tissue, (Tissue.CSF, Tissue.DURA)) & (hull < 0)
    tissue[fluid & _vessels(generator, grid, proportions)] = Tissue.VESSEL
    tissue[(tissue == Tissue.WHITE) & _medullary_veins(generator, grid)] = Tissue.VESSEL
    gland = below(ellipsoid(grid.at, from_ras(0, 2, -31), (6.5, 5, 4)))
    tissue[gland & (hull < 0) & (tissue != Tissue.VESSEL)] = Tissue.MUCOSA


def _paint_age_changes(
    generator: np.random.Generator, tissue: TissueMap, grid: HeadGrid, proportions: GrownProportions
) -> None:
    """Paint spots in the white matter, caps on the ventricles, and the plexus inside them, in place."""
    at = grid.at
    distance = ventricles(at, proportions.ventricles)
    white = (tissue == Tissue.WHITE) & (refine(at.z) > -18)
    # Caps are on the horns, the ends of the ventricles; along the body there is a thin line at most.
    horn = np.clip((np.abs(at.y + 12) - 12) / 20, 0.2, 1)
    tissue[white & below((distance - proportions.cap_mm * horn).astype(np.float32))] = Tissue.SPOT
    candidates = np.argwhere(white & below(distance, 13) & ~below(distance, 3))
    if proportions.spots and len(candidates):
        seeds = candidates[generator.integers(len(candidates), size=proportions.spots)].astype(np.float64)
        # Lesions of small vessels are elongated: short rows of balls.
        direction = generator.normal(size=(proportions.spots, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        size = (generator.gamma(2.5, 0.6, size=proportions.spots) + 0.5) / grid.spacing_mm
        rows = np.concatenate([seeds + direction * (step * size)[:, None] for step in (-0.8, 0.0, 0.8)])
        tissue[white & beads(rows, np.tile(size, 3), grid.geometry.shape)] = Tissue.SPOT
    points, radii = curve(_PLEXUS)
    tufts = np.concatenate((points, points * _MIRROR)) + generator.normal(0, 0.8, size=(2 * len(points), 3))
    sizes = np.tile(radii, 2) * generator.uniform(0.4, 1.1, size=len(tufts))
    plexus = beads(grid.to_index(tufts), sizes / grid.spacing_mm, grid.geometry.shape)
    tissue[(tissue == Tissue.CSF) & below(distance) & plexus] = Tissue.CHOROID


def _vessels(generator: np.random.Generator, grid: HeadGrid, proportions: GrownProportions) -> Mask:
    """Return voxels of the named arteries and veins, slightly perturbed, and of veins on the cortex."""
    centres: list[Points] = []
    radii = []
    for path in (*_PAIRED, *_SINGLE):
        for mirror in (np.ones(3), _MIRROR) if path in _PAIRED else (np.ones(3),):
            points, sizes = curve(path)
            offset = np.cumsum(generator.normal(0, 0.12, size=points.shape), axis=0)
            centres.append((points + offset) * mirror)
            radii.append(sizes + proportions.vessel_mm)
    for _ in range(proportions.veins):
        points = _cortical_vein(generator)
        centres.append(points)
        radii.append(np.full(len(points), generator.uniform(0.5, 1.1) + 0.5 * proportions.vessel_mm))
    index = grid.to_index(np.concatenate(centres))
    return beads(index, np.maximum(np.concatenate(radii), 0.4) / grid.spacing_mm, grid.geometry.shape)


def _cortical_vein(generator: np.random.Generator) -> Points:
    """Draw a vein just above the cortex between two points 20 to 60 mm apart, in template coordinates."""
    side = int(generator.integers(2))
    half, (above, tree) = average_cortex()[side], _above_cortex(side)
    start = half.pial[int(generator.integers(len(half.pial)))]
    near = np.linalg.norm(half.pial - start, axis=1)
    end = half.pial[int(generator.choice(np.flatnonzero((near > 20) & (near < 60))))]
    straight = start + np.linspace(0, 1, 160)[:, None] * (end - start)
    _, nearest = tree.query(straight)
    on_top = above[nearest]
    # A running mean removes the steps from snapping to corners.
    kernel = np.ones(15) / 15
    smooth = np.stack([np.convolve(axis, kernel, mode="valid") for axis in on_top.T], axis=1)
    return np.asarray(smooth)


@cache
def _above_cortex(side: int) -> tuple[Points, cKDTree]:
    """Return points 1.2 mm above each corner of a hemisphere's cortex, and a search tree of the corners."""
    half = average_cortex()[side]
    return half.pial + 1.2 * outward_normals(half.pial, half.triangles), cKDTree(half.pial)


def _medullary_veins(generator: np.random.Generator, grid: HeadGrid) -> Mask:
    """Return voxels of thin, straight veins from the ventricles outwards through the white matter."""
    rows = []
    for _ in range(int(generator.integers(0, 16))):
        side = generator.choice((-1.0, 1.0))
        start = np.array(from_ras(side * 14, generator.uniform(-35, 28), 22))
        direction = np.array((-side * generator.uniform(0.3, 1), generator.normal(0, 0.3), generator.uniform(0.2, 1)))
        rows.append(start + direction * np.arange(0, generator.uniform(10, 25), 0.4)[:, None])
    index = grid.to_index(np.concatenate(rows)) if rows else np.zeros((0, 3))
    return beads(index, np.full(len(index), 0.5 / grid.spacing_mm), grid.geometry.shape)
