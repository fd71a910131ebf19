"""A head of the grown family: which tissue stands where. The order of painting; the shapes are elsewhere."""

import numpy as np

from models.training.synthetic.anatomy import HEAD_CENTRE_MM, HEAD_EXTENT_MM
from models.training.synthetic.fields import REFINEMENT, refine
from models.training.synthetic.grown.bend import draw_bend
from models.training.synthetic.grown.brain import (
    bent_cortex,
    cerebellum,
    fill_cortex,
    paint_brain,
    pushed_cortex,
    stem,
    ventricles,
)
from models.training.synthetic.grown.build import Build, draw_build
from models.training.synthetic.grown.details import paint_details
from models.training.synthetic.grown.frame import Frame, place
from models.training.synthetic.grown.lesion import bulges, draw_plans, paint_lesions
from models.training.synthetic.grown.shell import dura_distance, paint_shell
from models.training.synthetic.grown.surfaces import Points
from models.training.synthetic.grown.voxelise import Mask
from models.training.synthetic.tissue import TissueMap
from models.training.synthetic.tumour import Variant
from pipeline.volume import Geometry


def grow_head(generator: np.random.Generator, variant: Variant, spacing_mm: float) -> TissueMap:
    """A head of `variant` on the grid that `anatomy.paint_head` paints on. Raises SurfacesMissing."""
    build, bend = draw_build(generator), draw_bend(generator)
    fine, coarse = _grid(spacing_mm, 1), _grid(spacing_mm, REFINEMENT)
    # Skull and skin are those of the head at rest; a mass moves what lies within them.
    rest = place(fine, bend, HEAD_CENTRE_MM)
    cortex = bent_cortex(bend, build)
    white, pial = fill_cortex(cortex, coarse)
    hull = dura_distance(pial | (cerebellum(rest.at) < 0) | (stem(rest.at) < 0), rest.coarse_mm, build)
    tissue = paint_shell(generator, rest, hull, build)
    plans = draw_plans(generator, variant, _places(white, rest, coarse, build))
    frame = place(fine, bend.with_bulges(bulges(plans)), HEAD_CENTRE_MM) if plans else rest
    outline = refine(hull)
    paint_brain(generator, tissue, frame, fill_cortex(pushed_cortex(cortex, frame.bend), fine), outline, build)
    paint_details(generator, tissue, frame, outline, build)
    paint_lesions(generator, tissue, frame, plans)
    return tissue


def _places(white: Mask, rest: Frame, coarse: Geometry, build: Build) -> Points:
    """Where a tumour may begin (points, 3; head mm): the hemispheres' inside, clear of ventricles and midline."""
    at = rest.at
    deep = (ventricles(at, build.ventricles) > 4) & (np.abs(at.x) > 9) & (at.z > -32) & (stem(at) > 8)
    index = np.argwhere(white & deep)
    return np.asarray(index @ coarse.affine[:3, :3].T + coarse.affine[:3, 3])


def _grid(spacing_mm: float, factor: int) -> Geometry:
    edge = spacing_mm * REFINEMENT
    many = REFINEMENT // factor
    slices, rows, columns = (round(extent / edge) * many for extent in HEAD_EXTENT_MM)
    return Geometry.axial((slices, rows, columns), (spacing_mm * factor,) * 3, HEAD_CENTRE_MM, "")
