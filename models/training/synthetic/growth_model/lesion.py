"""Draw the tumours of a grown head, grow them, and paint the tissue that their cell density implies."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from models.training.synthetic.fields import REFINEMENT, Field, below, refine
from models.training.synthetic.growth_model.deformation import MassEffect
from models.training.synthetic.growth_model.fisher_kolmogorov import GrowthParameters, grow, level_at
from models.training.synthetic.growth_model.head_grid import HeadGrid
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.tubes import FAR_MM
from models.training.synthetic.growth_model.voxelise import Mask
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Variant, noise_level

_INVADED = (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY, Tissue.SPOT)
_FINEST_MM = 1.6
"""Tumours grow on voxels of at least this edge: the head's own or, if they are smaller, those of the coarse grid."""


@dataclass(frozen=True, slots=True)
class LesionPlan:
    """Parameters of one tumour focus. Sizes are those of `tumour.Variant`."""

    seeds: Points
    """Seeds (seeds, 3) in head coordinates, the main one first."""
    radius_mm: float
    """Radius of a ball with the volume of the core."""
    rim_mm: float
    """Mean thickness of the enhancing rim. From the radius on the focus is solid; at 0 nothing enhances."""
    reach_mm: float
    """Distance by which non-enhancing tumour extends beyond the core."""
    oedema_mm: float
    """Distance by which oedema extends beyond the core, averaged over white matter."""
    absent_rim: float
    """Share of the rim that does not enhance."""
    blood: float
    """Share of the interior that is blood."""
    cavity: bool
    """Whether the interior is fluid after resection instead of necrosis."""
    strength: float
    """Strength of the mass effect; see `deformation.MassEffect`."""
    growth: GrowthParameters


def draw_plans(generator: np.random.Generator, variant: Variant, points: Points) -> tuple[LesionPlan, ...]:
    """Draw the foci of a head of this variant, none for LESION_FREE, with seeds among `points` (points, 3; head mm)."""
    draw = generator.uniform
    match variant:
        case Variant.LESION_FREE:
            return ()
        case Variant.UNIFOCAL:
            return (_plan(generator, points, draw(8, 26), draw(6, 28)),)
        case Variant.SMALL:
            return (_plan(generator, points, draw(3, 7), draw(2, 12)),)
        case Variant.NON_ENHANCING:
            return (_plan(generator, points, draw(9, 24), draw(0, 10), enhancing=False),)
        case Variant.RESECTED:
            return _resection(generator, points)
        case Variant.MULTIFOCAL:
            count = int(generator.integers(2, 5))
            return tuple(_plan(generator, points, draw(4, 17), draw(4, 18), others=count - 1) for _ in range(count))


def _resection(generator: np.random.Generator, points: Points) -> tuple[LesionPlan, ...]:
    """Draw a cavity, and sometimes a nodule at its wall."""
    cavity = _plan(generator, points, generator.uniform(7, 22), generator.uniform(2, 16), cavity=True)
    away = np.linalg.norm(points - cavity.seeds[0], axis=1)
    wall = points[(away > cavity.radius_mm) & (away < cavity.radius_mm + 5)]
    if generator.random() < 0.6 or not len(wall):
        return (cavity,)
    return (cavity, _plan(generator, wall, generator.uniform(3, 7), generator.uniform(1, 6)))


def _plan(
    generator: np.random.Generator,
    points: Points,
    radius_mm: float,
    oedema_mm: float,
    enhancing: bool = True,
    cavity: bool = False,
    others: int = 0,
) -> LesionPlan:
    main = points[int(generator.integers(len(points)))]
    near = points[np.linalg.norm(points - main, axis=1) < 0.9 * radius_mm]  # contains at least the main seed
    extra = near[generator.integers(len(near), size=int(generator.integers(0, 3)))]
    solid = generator.random() < 0.25
    rim = 2 * radius_mm if solid else float(generator.uniform(2, max(3.0, 0.7 * radius_mm)))
    if cavity:
        rim = float(generator.uniform(1.5, 4))
    broken = cavity or generator.random() < 0.25
    return LesionPlan(
        seeds=np.concatenate((main[None], extra)),
        radius_mm=radius_mm,
        rim_mm=rim if enhancing else 0.0,
        reach_mm=float(generator.uniform(1, 7)) if generator.random() < 0.5 else 0.0,
        oedema_mm=oedema_mm,
        absent_rim=float(generator.choice((1.0, generator.uniform(0, 0.9)))) if cavity else 0.4 * broken,
        blood=float(generator.uniform(0.1, 0.5)) if generator.random() < 0.1 else 0.0,
        cavity=cavity,
        # A cavity has no mass effect; several masses share the space.
        strength=0.0 if cavity else float(generator.uniform(0.05, 0.4)) * min(1.0, 2 / (1 + others)),
        growth=GrowthParameters(
            width_mm=float(generator.uniform(0.6, 1.4) + generator.uniform(0, 0.09) * radius_mm),
            grey_share=float(generator.uniform(0.08, 0.35)),
            level=float(generator.uniform(0.4, 0.7)),
        ),
    )


def mass_effects(plans: tuple[LesionPlan, ...]) -> tuple[MassEffect, ...]:
    """Return the mass effects of all foci."""
    return tuple(
        MassEffect((float(x), float(y), float(z)), 1.4 * plan.radius_mm, plan.strength)
        for plan in plans
        for x, y, z in plan.seeds[:1]
    )


def paint_lesions(
    generator: np.random.Generator, tissue: TissueMap, grid: HeadGrid, plans: tuple[LesionPlan, ...]
) -> None:
    """Grow all foci in the painted brain and paint the resulting tissues, in place."""
    if not plans:
        return
    factor = 1 if grid.spacing_mm > _FINEST_MM / 1.01 else REFINEMENT
    white = _fraction(np.isin(tissue, (Tissue.WHITE, Tissue.SPOT)), factor)
    grey = _fraction(np.isin(tissue, (Tissue.GREY, Tissue.DEEP_GREY)), factor)
    rough, breaks, clots, rate = (
        field if factor == REFINEMENT else refine(field)
        for field in (grid.coarse_noise(generator, wave) for wave in (14, 22, 12, 26))
    )
    rate = np.clip(1 + 0.35 * rate, 0.3, 2).astype(np.float32)
    stages = [_stages(plan, _grow_focus(plan, white, grey, rate, grid, factor), rough, breaks, clots) for plan in plans]
    invaded, pale = np.isin(tissue, _INVADED), np.isin(tissue, (Tissue.WHITE, Tissue.SPOT))
    # Paint each stage of all foci before the next stage, so that no oedema covers the rim of another focus.
    for of_all in zip(*stages, strict=True):
        for kind, field in of_all:
            reached = _refined_below(field, factor)
            tissue[reached & (pale if kind is Tissue.OEDEMA else invaded)] = kind


@dataclass(frozen=True, slots=True)
class _GrownFocus:
    """The grown density of a focus as a logit, on a grid of edge `voxel_mm`, and masks on that grid."""

    logit: Field
    core: Mask
    voxel_mm: float
    white: Mask
    tissue: Mask


def _grow_focus(plan: LesionPlan, white: Field, grey: Field, rate: Field, grid: HeadGrid, factor: int) -> _GrownFocus:
    voxel_mm = grid.spacing_mm * factor
    to_index = np.linalg.inv(grid.geometry.affine)
    # The centre of a coarse voxel is between the centres of its fine voxels.
    fine = plan.seeds @ to_index[:3, :3].T + to_index[:3, 3]
    wanted = (fine - (factor - 1) / 2) / factor
    brain = np.argwhere(white + grey > 0.5)
    seeds = brain[cKDTree(brain).query(wanted)[1]].astype(np.float64)
    logit = grow(white, grey, rate, seeds, plan.growth, 4 / 3 * np.pi * plan.radius_mm**3, voxel_mm)
    tissue = white + grey > 0.5
    core = tissue & (logit > np.log(plan.growth.level / (1 - plan.growth.level)))
    return _GrownFocus(logit, core, voxel_mm, white > 0.5, tissue)


def _stages(
    plan: LesionPlan, focus: _GrownFocus, rough: Field, breaks: Field, clots: Field
) -> list[tuple[Tissue, Field]]:
    """Return the tissues of a focus in painting order, each with a field that is negative inside."""
    edge = float(np.log(plan.growth.level / (1 - plan.growth.level)))

    def beyond(reach_mm: float, where: Mask) -> Field:
        level = level_at(focus.logit, focus.core, where, reach_mm, focus.voxel_mm) if reach_mm else edge
        # Noise of a third of the distance to the core's edge varies the thickness of each shell.
        return np.asarray(level - focus.logit + 0.3 * (level - edge) * rough, dtype=np.float32)

    core = beyond(0, focus.tissue)
    reach = beyond(plan.reach_mm, focus.tissue)
    oedema = beyond(plan.oedema_mm, focus.white)
    inner = beyond(-plan.rim_mm, focus.tissue) if 0 < plan.rim_mm < plan.radius_mm else np.full_like(core, FAR_MM)
    gaps = np.maximum(core, breaks - noise_level(plan.absent_rim if plan.rim_mm else 1.0))
    return [
        (Tissue.OEDEMA, oedema),
        (Tissue.NON_ENHANCING, np.minimum(reach, core)),
        (Tissue.ENHANCING, core),
        (Tissue.NON_ENHANCING, gaps),
        (Tissue.CAVITY if plan.cavity else Tissue.NECROSIS, inner),
        (Tissue.BLOOD, np.maximum(inner, clots - noise_level(plan.blood))),
    ]


def _refined_below(field: Field, factor: int) -> Mask:
    return below(field) if factor == REFINEMENT else np.asarray(field < 0)


def _fraction(mask: Mask, factor: int) -> Field:
    """Return the fraction of each voxel of the growth grid that the mask fills."""
    slices, rows, columns = (size // factor for size in mask.shape)
    blocks = mask.reshape(slices, factor, rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)
