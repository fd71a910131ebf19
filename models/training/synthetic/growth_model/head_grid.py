"""The grid of a head together with its deformation, which maps the template to voxels."""

from dataclasses import dataclass

import numpy as np

from models.training.synthetic.anatomy import HEAD_CENTRE_MM
from models.training.synthetic.fields import REFINEMENT, Coordinates, Field, coarse_coordinates, noise, refine
from models.training.synthetic.growth_model.deformation import Deformation
from models.training.synthetic.growth_model.surfaces import Points
from pipeline.volume import Geometry


@dataclass(frozen=True, slots=True)
class HeadGrid:
    """A fine grid, and template coordinates on its coarse grid (see `fields.REFINEMENT`)."""

    geometry: Geometry
    deformation: Deformation
    at: Coordinates
    """Template coordinates (mm) of the voxels of the coarse grid."""

    @property
    def spacing_mm(self) -> float:
        """Return the edge of a fine voxel."""
        return self.geometry.spacing_mm[0]

    @property
    def coarse_mm(self) -> float:
        """Return the edge of a coarse voxel."""
        return self.spacing_mm * REFINEMENT

    def to_index(self, template: Points) -> Points:
        """Map template coordinates to fine index units (slice, row, column)."""
        to_index = np.linalg.inv(self.geometry.affine)
        return np.asarray(self.deformation.to_head(template) @ to_index[:3, :3].T + to_index[:3, 3])

    def noise(self, generator: np.random.Generator, wavelength_mm: float) -> Field:
        """Return `fields.noise` of the coarse grid, refined to the fine grid."""
        return refine(self.coarse_noise(generator, wavelength_mm))

    def coarse_noise(self, generator: np.random.Generator, wavelength_mm: float) -> Field:
        """Return `fields.noise` on the coarse grid."""
        return noise(generator, self.at.x.shape, self.coarse_mm, wavelength_mm)


def map_template(geometry: Geometry, deformation: Deformation) -> HeadGrid:
    """Map the template to an axis-aligned LPS grid around HEAD_CENTRE_MM, whose sizes are multiples of REFINEMENT."""
    head = coarse_coordinates(geometry.shape, geometry.spacing_mm[0], HEAD_CENTRE_MM)
    points = np.stack((head.x.ravel(), head.y.ravel(), head.z.ravel()), axis=1)
    x, y, z = deformation.to_template(points).T
    return HeadGrid(
        geometry, deformation, Coordinates(*(np.ascontiguousarray(v).reshape(head.x.shape) for v in (x, y, z)))
    )
