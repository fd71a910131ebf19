"""One head's grid and its bend together: where the template lies in the voxels. Knows no tissues."""

from dataclasses import dataclass

import numpy as np

from models.training.synthetic.fields import REFINEMENT, Coordinates, Field, coarse_coordinates, noise, refine
from models.training.synthetic.growth_model.deformation import Deformation
from models.training.synthetic.growth_model.surfaces import Points
from models.training.synthetic.growth_model.voxelise import Mask
from pipeline.volume import Geometry


@dataclass(frozen=True, slots=True)
class HeadGrid:
    """A fine grid, and the template's coordinates on the coarse one of `fields.REFINEMENT`."""

    geometry: Geometry
    deformation: Deformation
    at: Coordinates
    """Template coordinates (mm) of the coarse grid's voxels."""

    @property
    def spacing_mm(self) -> float:
        """Edge of a fine voxel."""
        return self.geometry.spacing_mm[0]

    @property
    def coarse_mm(self) -> float:
        """Edge of a coarse voxel."""
        return self.spacing_mm * REFINEMENT

    def to_index(self, template: Points) -> Points:
        """Places of the template in fine index units (slice, row, column)."""
        to_index = np.linalg.inv(self.geometry.affine)
        return np.asarray(self.deformation.to_head(template) @ to_index[:3, :3].T + to_index[:3, 3])

    def noise(self, generator: np.random.Generator, wavelength_mm: float, band: float = 0.3) -> Field:
        """`fields.noise` of the coarse grid's size on the fine grid."""
        return refine(self.coarse_noise(generator, wavelength_mm, band))

    def coarse_noise(self, generator: np.random.Generator, wavelength_mm: float, band: float = 0.3) -> Field:
        """`fields.noise` on the coarse grid."""
        shape = (self.at.x.shape[0], self.at.x.shape[1], self.at.x.shape[2])
        return noise(generator, shape, self.coarse_mm, wavelength_mm, band)


def below(field: Field, level: float = 0.0) -> Mask:
    """`refine(field) < level`, at the cost of that part of the grid alone where it can be so."""
    fine = (field.shape[0] * REFINEMENT, field.shape[1] * REFINEMENT, field.shape[2] * REFINEMENT)
    mask = np.zeros(fine, dtype=bool)
    low = field < level
    box, wide, inner = [], [], []
    for axis in range(3):
        found = np.flatnonzero(low.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(found):
            return mask
        # A fine voxel is a mean of coarse ones at most one voxel away.
        first, last = max(int(found[0]) - 1, 0), min(int(found[-1]) + 2, field.shape[axis])
        start = max(first - 1, 0)
        box.append(slice(first * REFINEMENT, last * REFINEMENT))
        wide.append(slice(start, last + 1))
        inner.append(slice((first - start) * REFINEMENT, (last - start) * REFINEMENT))
    mask[tuple(box)] = refine(field[tuple(wide)])[tuple(inner)] < level
    return mask


def place(geometry: Geometry, deformation: Deformation, centre_mm: tuple[float, float, float]) -> HeadGrid:
    """The frame of an axis-aligned LPS grid around `centre_mm`, whose sizes are multiples of the refinement."""
    shape = (geometry.shape[0], geometry.shape[1], geometry.shape[2])
    head = coarse_coordinates(shape, geometry.spacing_mm[0], centre_mm)
    points = np.stack((head.x.ravel(), head.y.ravel(), head.z.ravel()), axis=1)
    x, y, z = deformation.to_template(points).T
    return HeadGrid(
        geometry, deformation, Coordinates(*(np.ascontiguousarray(v).reshape(head.x.shape) for v in (x, y, z)))
    )
