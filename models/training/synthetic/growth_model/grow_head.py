"""Paint the tissues of a head of the family GROWN, in order, with the shapes of the other modules."""

from dataclasses import replace

import numpy as np

from models.training.synthetic.anatomy import HEAD_CENTRE_MM, HEAD_EXTENT_MM
from models.training.synthetic.fields import REFINEMENT, refine
from models.training.synthetic.growth_model.brain import (
    cerebellum,
    deformed_cortex,
    displaced_cortex,
    fill_cortex,
    paint_brain,
    stem,
    ventricles,
)
from models.training.synthetic.growth_model.deformation import draw_deformation
from models.training.synthetic.growth_model.details import paint_details
from models.training.synthetic.growth_model.head_grid import HeadGrid, map_template
from models.training.synthetic.growth_model.lesion import draw_plans, mass_effects, paint_lesions
from models.training.synthetic.growth_model.proportions import GrownProportions, draw_proportions
from models.training.synthetic.growth_model.skull import dura_distance, paint_shell
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.voxelise import Mask
from models.training.synthetic.tissue import TissueMap
from models.training.synthetic.tumour import Variant
from pipeline.volume import Geometry


def grow_head(generator: np.random.Generator, variant: Variant, spacing_mm: float) -> TissueMap:
    """Return the tissues of a head on the same grid as `anatomy.paint_head`. Raises NilearnMissing."""
    proportions, deformation = draw_proportions(generator), draw_deformation(generator)
    fine, coarse = _grid(spacing_mm, 1), _grid(spacing_mm, REFINEMENT)
    # A mass displaces the brain, but not skull and skin.
    rest = map_template(fine, deformation)
    cortex = deformed_cortex(deformation, proportions)
    white, pial = fill_cortex(cortex, coarse)
    hull = dura_distance(pial | (cerebellum(rest.at) < 0) | (stem(rest.at) < 0), rest.coarse_mm, proportions)
    tissue = paint_shell(generator, rest, hull, proportions)
    plans = draw_plans(generator, variant, _seed_points(white, rest, coarse, proportions))
    grid = map_template(fine, replace(deformation, mass_effects=mass_effects(plans))) if plans else rest
    outline = refine(hull)
    paint_brain(
        generator, tissue, grid, fill_cortex(displaced_cortex(cortex, grid.deformation), fine), outline, proportions
    )
    paint_details(generator, tissue, grid, outline, proportions)
    paint_lesions(generator, tissue, grid, plans)
    return tissue


def _seed_points(white: Mask, rest: HeadGrid, coarse: Geometry, proportions: GrownProportions) -> Points:
    """Return where a tumour may begin (points, 3; head mm): in the hemispheres, away from ventricles and midline."""
    at = rest.at
    deep = (ventricles(at, proportions.ventricles) > 4) & (np.abs(at.x) > 9) & (at.z > -32) & (stem(at) > 8)
    index = np.argwhere(white & deep)
    return np.asarray(index @ coarse.affine[:3, :3].T + coarse.affine[:3, 3])


def _grid(spacing_mm: float, factor: int) -> Geometry:
    edge = spacing_mm * REFINEMENT
    many = REFINEMENT // factor
    slices, rows, columns = (round(extent / edge) * many for extent in HEAD_EXTENT_MM)
    return Geometry.axial((slices, rows, columns), (spacing_mm * factor,) * 3, HEAD_CENTRE_MM, "")
