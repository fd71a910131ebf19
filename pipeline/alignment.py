"""The motion found between two series, as a value. Finds nothing itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.volume import Matrix, Vector


@dataclass(frozen=True, slots=True)
class RoleAlignment:
    """How one series was moved onto T1CE."""

    role: Role
    kept: bool
    """False where the scanner's own geometry was used."""
    rotation_deg: Vector
    """Euler angles about the patient's x (left), y (back) and z (head) axes."""
    translation_mm: Vector
    """Shift of the head's centre, LPS."""
    matrix: Matrix
    """4 x 4, from T1CE world coordinates to this series' world coordinates (LPS, mm)."""
    why: str
    """The decision in words, with the mutual information that it rests on."""

    @property
    def inverse(self) -> Matrix:
        """From this series' world coordinates to T1CE world coordinates."""
        return as_matrix(np.linalg.inv(np.array(self.matrix)))


def as_matrix(matrix: NDArray[np.float64]) -> Matrix:
    """A 4 x 4 array as a frozen value."""
    return tuple((float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in matrix)
