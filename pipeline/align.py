"""Bring the volumes of a study onto one grid. (types; the step itself is being written)"""

from dataclasses import dataclass

from models.labels import Role
from pipeline.volume import Vector


@dataclass(frozen=True, slots=True)
class RoleAlignment:
    """How one series was moved onto T1CE."""

    role: Role
    kept: bool
    """False where the scanner's own geometry was used."""
    rotation_deg: Vector
    translation_mm: Vector
    matrix: tuple[tuple[float, float, float, float], ...]
    """4 x 4, from T1CE world coordinates to this series' world coordinates (LPS, mm)."""
    why: str
