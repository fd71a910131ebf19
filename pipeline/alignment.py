"""Hold the motion between two series, as found by `pipeline.align`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.volume import Matrix, Vector


@dataclass(frozen=True, slots=True)
class AlignmentEvidence:
    """What the alignment of one series was decided on."""

    overlap_before: float
    """Share of the smaller head, within the common field of view, that lies in the reference's head with the
    scanner's coordinates."""
    overlap_after: float
    """The same with the alignment that was used."""
    gain: float
    """Mutual information, nats, that the registration gained over the scanner's coordinates, whether kept or not."""


@dataclass(frozen=True, slots=True)
class RoleAlignment:
    """The rigid motion that aligns one series with the reference series: T1CE where there is one."""

    role: Role
    kept: bool
    """False if the scanner's own geometry was used."""
    rotation_deg: Vector
    """Euler angles about the patient's x (left), y (back) and z (head) axes."""
    translation_mm: Vector
    """Shift of the head's centre, LPS."""
    matrix: Matrix
    """4 x 4, from the reference's world coordinates to this series' world coordinates (LPS, mm)."""
    why: str
    """The decision in words, with the mutual information that it is based on."""
    evidence: AlignmentEvidence | None = None
    """None where nothing was measured, because registration is switched off."""

    @property
    def inverse(self) -> Matrix:
        """From this series' world coordinates to those of the reference."""
        return as_matrix(np.linalg.inv(np.array(self.matrix)))


def as_matrix(matrix: NDArray[np.float64]) -> Matrix:
    """Convert a 4 x 4 array to a frozen value."""
    return tuple((float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in matrix)
