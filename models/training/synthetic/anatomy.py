"""Paint the tissues of a head of the families PAINTED and TEMPLATE, with or without a tumour.

Every organ is a distance field on a coarse grid (see `fields`), which is refined to the fine grid and thresholded. Each
head is scaled, rotated and warped at random.
"""

import numpy as np
from scipy.ndimage import binary_propagation
from scipy.spatial.transform import Rotation

from models.training.synthetic.brain_details import callosum
from models.training.synthetic.brain_from_template import paint_template_brain
from models.training.synthetic.brain_procedural import paint_procedural_brain
from models.training.synthetic.fields import REFINEMENT, Coordinates, Field, coarse_coordinates, noise, refine
from models.training.synthetic.skull_and_face import draw_proportions
from models.training.synthetic.tissue import Tissue, TissueMap
from models.training.synthetic.tumour import Focus, TumourFields, Variant, apply_mass_effect, draw_foci, tumour_fields

HEAD_EXTENT_MM = (200, 256, 204)
"""Extent of the grid along S, P, L: from the upper lip to above the vertex, with air around the largest heads."""
HEAD_CENTRE_MM = (0.0, -6.0, 4.0)
"""Centre of the grid (x, y, z) relative to the middle of the brain."""


def paint_head(
    generator: np.random.Generator, variant: Variant, spacing_mm: float, template: bool = False
) -> TissueMap:
    """Return the tissues of a head on an axis-aligned LPS grid that covers HEAD_EXTENT_MM around HEAD_CENTRE_MM.

    The brain is procedural or, with `template`, made from an average brain; then NilearnMissing may be raised.
    """
    slices, rows, columns = (round(extent / spacing_mm / REFINEMENT) * REFINEMENT for extent in HEAD_EXTENT_MM)
    proportions = draw_proportions(generator)
    at = coarse_coordinates((slices, rows, columns), spacing_mm, HEAD_CENTRE_MM)
    at = _rotate_and_warp(generator, at, spacing_mm * REFINEMENT)
    foci = draw_foci(generator, variant)
    displaced = apply_mass_effect(at, foci, float(generator.uniform(0.1, 0.45)))
    paint_brain = paint_template_brain if template else paint_procedural_brain
    tissue = paint_brain(generator, at, displaced, proportions, spacing_mm)
    if foci:
        fields = tumour_fields(generator, at, foci, spacing_mm * REFINEMENT)
        _paint_tumour(tissue, refine(at.x), refine(callosum(at)), fields, foci)
    return tissue


def _rotate_and_warp(generator: np.random.Generator, at: Coordinates, spacing_mm: float) -> Coordinates:
    """Return anatomical coordinates of each voxel: an affine and a smooth warp of the grid's coordinates."""
    turn = Rotation.from_euler("xyz", generator.normal(0, (6, 3, 4)), degrees=True).as_matrix()
    matrix = turn / generator.uniform((0.93, 0.93, 0.93), (1.06, 1.06, 1.06))
    shift = generator.normal(0, 2, size=3)
    bent = []
    for row in range(3):
        value = matrix[row, 0] * at.x + matrix[row, 1] * at.y + matrix[row, 2] * at.z + shift[row]
        value = (
            value
            + 2.2 * noise(generator, at.x.shape, spacing_mm, 90)
            + 0.8 * noise(generator, at.x.shape, spacing_mm, 40)
        )
        bent.append(value.astype(np.float32))
    return Coordinates(*bent)


def _paint_tumour(tissue: TissueMap, x: Field, callosum: Field, fields: TumourFields, foci: tuple[Focus, ...]) -> None:
    """Paint the tumour over the brain, in place: oedema in white matter, then infiltration, rim and necrosis."""
    brain = np.isin(tissue, (Tissue.WHITE, Tissue.GREY, Tissue.DEEP_GREY, Tissue.SPOT))
    # Tumour grows in brain tissue only, not in sulci, ventricles and vessels.
    sides = {np.sign(focus.centre[0]) for focus in foci}
    reachable = np.ones(tissue.shape, dtype=bool)
    if len(sides) == 1:
        # The falx stops growth to the other side; the corpus callosum does not.
        reachable = (np.sign(x) == sides.pop()) | ((callosum > 2) & (np.abs(x) < 25))
    white = np.isin(tissue, (Tissue.WHITE, Tissue.SPOT))
    invaded = brain & reachable
    tumour = invaded & (refine(fields.infiltration) < 0)
    oedema = white & reachable & (refine(fields.oedema) < 0)
    # Fluid does not cross a sulcus to the next gyrus.
    tissue[oedema & binary_propagation(tumour, mask=oedema | tumour)] = Tissue.OEDEMA
    tissue[tumour] = Tissue.NON_ENHANCING
    core = invaded & (refine(fields.core) < 0)
    tissue[core] = Tissue.ENHANCING
    tissue[core & (refine(fields.gaps) < 0)] = Tissue.NON_ENHANCING
    for field, kind in (
        (fields.necrosis, Tissue.NECROSIS),
        (fields.cavity, Tissue.CAVITY),
        (fields.blood, Tissue.BLOOD),
    ):
        tissue[core & (refine(field) < 0)] = kind
