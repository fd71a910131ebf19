"""Choose the reference series of a study: the one that the others are aligned with and that shows the head."""

from collections.abc import Collection, Mapping

from models.labels import Role
from pipeline.volume import Geometry, Volume

_ORDER = (Role.T1CE, Role.FLAIR, Role.T1, Role.T2, Role.ADC, Role.DWI)
_DIFFUSION = (Role.ADC, Role.DWI)


def reference_role(geometries: Mapping[Role, Geometry]) -> Role:
    """Return the role of a study's reference series: T1CE where it is there, else that of the finest series.

    The finest has the smallest distance between voxels along its coarsest axis, to 0.01 mm; among equal ones FLAIR
    comes before T1 and T2. Diffusion images (ADC, DWI) are distorted and have no air, so they are the reference only of
    studies without any other series. The order of `geometries` has no influence. Raises ValueError if it is empty.
    """

    def rank(role: Role) -> tuple[bool, bool, float, int]:
        coarsest_mm = round(max(geometries[role].spacing_mm), 2)
        return role is not Role.T1CE, role in _DIFFUSION, coarsest_mm, _ORDER.index(role)

    return min(geometries, key=rank)


def reference_of(volumes: Mapping[Role, Volume]) -> Role:
    """Return the role of the reference series of a study that was read, see `reference_role`."""
    return reference_role({role: volume.geometry for role, volume in volumes.items()})


def reference_on_one_grid(roles: Collection[Role]) -> Role:
    """Return the reference of images on one grid, as those of a data set are. Raises ValueError without roles."""
    return min(roles, key=_ORDER.index)
