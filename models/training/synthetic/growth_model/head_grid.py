"""The grid of a head together with its deformation, which maps the template to voxels."""

from dataclasses import dataclass

import numpy as np

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

    def noise(self, generator: np.random.Generator, wavelength_mm: float, band: float = 0.3) -> Field:
        """Return `fields.noise` of the coarse grid, refined to the fine grid."""
        return refine(self.coarse_noise(generator, wavelength_mm, band))

    def coarse_noise(self, generator: np.random.Generator, wavelength_mm: float, band: float = 0.3) -> Field:
        """Return `fields.noise` on the coarse grid."""
        shape = (self.at.x.shape[0], self.at.x.shape[1], self.at.x.shape[2])
        return noise(generator, shape, self.coarse_mm, wavelength_mm, band)


def map_template(geometry: Geometry, deformation: Deformation, centre_mm: tuple[float, float, float]) -> HeadGrid:
    """Map the template to an axis-aligned LPS grid around `centre_mm`, whose sizes are multiples of REFINEMENT."""
    shape = (geometry.shape[0], geometry.shape[1], geometry.shape[2])
    head = coarse_coordinates(shape, geometry.spacing_mm[0], centre_mm)
    points = np.stack((head.x.ravel(), head.y.ravel(), head.z.ravel()), axis=1)
    x, y, z = deformation.to_template(points).T
    return HeadGrid(
        geometry, deformation, Coordinates(*(np.ascontiguousarray(v).reshape(head.x.shape) for v in (x, y, z)))
    )
