"""The tumours of a head of the grown family: what is planned for each variant, and what tissue density becomes."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import norm

from models.training.synthetic.fields import REFINEMENT, Field, refine
from models.training.synthetic.growth_model.deformation import MassEffect
from models.training.synthetic.growth_model.fisher_kolmogorov import GrowthParameters, grow, level_at
from models.training.synthetic.growth_model.head_grid import HeadGrid, below
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.tubes import FAR_MM
from models.training.synthetic.growth_model.voxelise import Mask
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Variant

_INVADED = (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY, Tissue.SPOT)
_FINEST_MM = 1.6
"""Tumours grow on voxels of at least this edge: the head's own or, if these are smaller, those of the coarse grid."""


@dataclass(frozen=True, slots=True)
class LesionPlan:
    """One tumour focus before it grows. Sizes are those that `tumour.Variant` speaks of."""

    seeds: Points
    """(seeds, 3) in head coordinates, the main one first."""
    radius_mm: float
    """Of the ball whose volume the core shall have."""
    rim_mm: float
    """Mean thickness of the enhancing rim; at least the radius is a solid nodule, 0 is no enhancement."""
    reach_mm: float
    """How far non-enhancing tumour goes beyond the core."""
    oedema_mm: float
    """How far oedema goes beyond the core, on average over white matter."""
    absent_rim: float
    """Share of the rim that does not enhance."""
    blood: float
    """Share of what the rim encloses that is blood."""
    cavity: bool
    """Whether the rim encloses the fluid of a resection and not necrosis."""
    strength: float
    """Of the mass effect, see `deformation.MassEffect`."""
    growth: GrowthParameters


def draw_plans(generator: np.random.Generator, variant: Variant, places: Points) -> tuple[LesionPlan, ...]:
    """Foci for a head of this variant, none for LESION_FREE, with seeds among `places` (points, 3; head mm)."""
    draw = generator.uniform
    match variant:
        case Variant.LESION_FREE:
            return ()
        case Variant.UNIFOCAL:
            return (_plan(generator, places, draw(8, 26), draw(6, 28)),)
        case Variant.SMALL:
            return (_plan(generator, places, draw(3, 7), draw(2, 12)),)
        case Variant.NON_ENHANCING:
            return (_plan(generator, places, draw(9, 24), draw(0, 10), enhancing=False),)
        case Variant.RESECTED:
            return _resection(generator, places)
        case Variant.MULTIFOCAL:
            count = int(generator.integers(2, 5))
            return tuple(_plan(generator, places, draw(4, 17), draw(4, 18), others=count - 1) for _ in range(count))


def _resection(generator: np.random.Generator, places: Points) -> tuple[LesionPlan, ...]:
    """A cavity, and now and then a nodule at its wall."""
    cavity = _plan(generator, places, generator.uniform(7, 22), generator.uniform(2, 16), cavity=True)
    away = np.linalg.norm(places - cavity.seeds[0], axis=1)
    wall = places[(away > cavity.radius_mm) & (away < cavity.radius_mm + 5)]
    if generator.random() < 0.6 or not len(wall):
        return (cavity,)
    return (cavity, _plan(generator, wall, generator.uniform(3, 7), generator.uniform(1, 6)))


def _plan(
    generator: np.random.Generator,
    places: Points,
    radius_mm: float,
    oedema_mm: float,
    enhancing: bool = True,
    cavity: bool = False,
    others: int = 0,
) -> LesionPlan:
    main = places[int(generator.integers(len(places)))]
    near = places[np.linalg.norm(places - main, axis=1) < 0.9 * radius_mm]  # at the least, the main one itself
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
        # A cavity does not push; several masses share the room that there is.
        strength=0.0 if cavity else float(generator.uniform(0.05, 0.4)) * min(1.0, 2 / (1 + others)),
        growth=GrowthParameters(
            width_mm=float(generator.uniform(0.6, 1.4) + generator.uniform(0, 0.09) * radius_mm),
            grey_share=float(generator.uniform(0.08, 0.35)),
            level=float(generator.uniform(0.4, 0.7)),
        ),
    )


def mass_effects(plans: tuple[LesionPlan, ...]) -> tuple[MassEffect, ...]:
    """The mass effect of all foci."""
    return tuple(
        MassEffect((float(x), float(y), float(z)), 1.4 * plan.radius_mm, plan.strength)
        for plan in plans
        for x, y, z in plan.seeds[:1]
    )


def paint_lesions(
    generator: np.random.Generator, tissue: TissueMap, grid: HeadGrid, plans: tuple[LesionPlan, ...]
) -> None:
    """Grow all foci in the brain that was painted, and paint what they make of it, in place."""
    if not plans:
        return
    factor = 1 if grid.spacing_mm > _FINEST_MM / 1.01 else REFINEMENT
    white = _share(np.isin(tissue, (Tissue.WHITE, Tissue.SPOT)), factor)
    grey = _share(np.isin(tissue, (Tissue.GREY, Tissue.DEEP_GREY)), factor)
    rough, breaks, clots, pace = (
        field if factor == REFINEMENT else refine(field)
        for field in (grid.coarse_noise(generator, wave) for wave in (14, 22, 12, 26))
    )
    pace = np.clip(1 + 0.35 * pace, 0.3, 2).astype(np.float32)
    stages = [_stages(plan, _grown(plan, white, grey, pace, grid, factor), rough, breaks, clots) for plan in plans]
    invaded, pale = np.isin(tissue, _INVADED), np.isin(tissue, (Tissue.WHITE, Tissue.SPOT))
    # All foci at one stage before any at the next: one focus' oedema never covers another's rim.
    for of_all in zip(*stages, strict=True):
        for kind, field in of_all:
            reached = _below(field, factor)
            tissue[reached & (pale if kind is Tissue.OEDEMA else invaded)] = kind


@dataclass(frozen=True, slots=True)
class _GrownFocus:
    """A density and the levels of it that matter, all logits, on the growth's grid of edge `mm`."""

    logit: Field
    core: Mask
    mm: float
    white: Mask
    tissue: Mask


def _grown(plan: LesionPlan, white: Field, grey: Field, pace: Field, grid: HeadGrid, factor: int) -> _GrownFocus:
    mm = grid.spacing_mm * factor
    to_index = np.linalg.inv(grid.geometry.affine)
    # The middle of a coarse voxel lies between those of the fine ones that it holds.
    fine = plan.seeds @ to_index[:3, :3].T + to_index[:3, 3]
    wanted = (fine - (factor - 1) / 2) / factor
    brain = np.argwhere(white + grey > 0.5)
    seeds = brain[cKDTree(brain).query(wanted)[1]].astype(np.float64)
    logit = grow(white, grey, pace, seeds, plan.growth, 4 / 3 * np.pi * plan.radius_mm**3, mm)
    tissue = white + grey > 0.5
    core = tissue & (logit > np.log(plan.growth.level / (1 - plan.growth.level)))
    return _GrownFocus(logit, core, mm, white > 0.5, tissue)


def _stages(
    plan: LesionPlan, grown: _GrownFocus, rough: Field, breaks: Field, clots: Field
) -> list[tuple[Tissue, Field]]:
    """What the focus makes of tissue, in the order of painting: the kind, and a field that is negative there."""
    edge = float(np.log(plan.growth.level / (1 - plan.growth.level)))

    def beyond(reach_mm: float, where: Mask) -> Field:
        level = level_at(grown.logit, grown.core, where, reach_mm, grown.mm) if reach_mm else edge
        # Levels wander by a third of their distance from the core's edge, so that no shell is evenly thick.
        return np.asarray(level - grown.logit + 0.3 * (level - edge) * rough, dtype=np.float32)

    core = beyond(0, grown.tissue)
    reach = beyond(plan.reach_mm, grown.tissue)
    oedema = beyond(plan.oedema_mm, grown.white)
    inner = beyond(-plan.rim_mm, grown.tissue) if 0 < plan.rim_mm < plan.radius_mm else _nowhere(core)
    gaps = np.maximum(core, breaks - _quantile(plan.absent_rim if plan.rim_mm else 1.0))
    return [
        (Tissue.OEDEMA, oedema),
        (Tissue.NON_ENHANCING, np.minimum(reach, core)),
        (Tissue.ENHANCING, core),
        (Tissue.NON_ENHANCING, gaps),
        (Tissue.CAVITY if plan.cavity else Tissue.NECROSIS, inner),
        (Tissue.BLOOD, np.maximum(inner, clots - _quantile(plan.blood))),
    ]


def _nowhere(like: Field) -> Field:
    """A field that is negative nowhere."""
    return np.full_like(like, FAR_MM)


def _quantile(share: float) -> np.float32:
    """What noise of variance 1 is below in this share of places."""
    return np.float32(np.clip(norm.ppf(share), -9, 9))


def _below(field: Field, factor: int) -> Mask:
    return below(field) if factor == REFINEMENT else np.asarray(field < 0)


def _share(mask: Mask, factor: int) -> Field:
    """Share of each voxel of the growth's grid that the mask fills."""
    slices, rows, columns = (size // factor for size in mask.shape)
    blocks = mask.reshape(slices, factor, rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)
