"""Read the average cortex, from which the cortex of grown heads is deformed.

fsaverage5 is the average of the surfaces of 40 adults (Fischl et al. 1999), with 10242 corners per hemisphere. It is
part of the nilearn package; nothing is downloaded.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.synthetic.nilearn_data import NilearnMissing, nilearn_data

Points = NDArray[np.floating[Any]]
"""(points, 3): x, y, z in millimetres; in single precision for coordinates of voxels, otherwise double."""
Triangles = NDArray[np.int64]
"""(triangles, 3): indices of corners, counter-clockwise as seen from outside."""

_FOLDER = "fsaverage5"
_MIDDLE_RAS_MM = np.array((0.0, -18.0, 4.0))
"""Middle of the brain in the coordinates of the surfaces, which is the origin of template coordinates."""


@dataclass(frozen=True, slots=True)
class Hemisphere:
    """One hemisphere of the cortex, in LPS millimetres from the middle of the brain."""

    white: Points
    """Corners of the border between white and grey matter."""
    pial: Points
    """The same corners on the outer face of the grey matter."""
    triangles: Triangles
    """Triangles of both surfaces."""


def from_ras(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Convert RAS millimetres of fsaverage, as in atlases, to template coordinates."""
    return (-x - float(_MIDDLE_RAS_MM[0]), -y + float(_MIDDLE_RAS_MM[1]), z - float(_MIDDLE_RAS_MM[2]))


@cache
def average_cortex() -> tuple[Hemisphere, Hemisphere]:
    """Return the left and the right hemisphere. Raises NilearnMissing."""
    folder = nilearn_data() / _FOLDER
    left, right = (_hemisphere(folder, side) for side in ("left", "right"))
    return left, right


def _hemisphere(folder: Path, side: str) -> Hemisphere:
    import nibabel

    loaded = []
    for name in ("white", "pial"):
        path = folder / f"{name}_{side}.gii.gz"
        if not path.is_file():
            raise NilearnMissing(
                f"nilearn has no {_FOLDER}/{path.name}, which grown heads need. Install glionode[train], which "
                "requires a version that contains it."
            )
        loaded.append(nibabel.load(path))
    white, pial = (_to_template(image.agg_data("pointset")) for image in loaded)
    return Hemisphere(white, pial, np.asarray(loaded[0].agg_data("triangle"), dtype=np.int64))


def _to_template(ras: NDArray[np.float32]) -> Points:
    # Two axes change sign, so the orientation of triangles is kept.
    return np.asarray((np.asarray(ras, dtype=np.float64) - _MIDDLE_RAS_MM) * np.array((-1.0, -1.0, 1.0)))


def outward_normals(points: Points, triangles: Triangles) -> Points:
    """Return the outward unit normal at each corner (points, 3): the area-weighted mean of its triangles' normals."""
    corners = points[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))
