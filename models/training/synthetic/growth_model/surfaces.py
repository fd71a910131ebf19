"""The average cortex that heads of the grown family are bent from. Reads two files of nilearn's; knows no voxels.

fsaverage5 is the average of 40 adults' surfaces (Fischl et al. 1999), 10242 corners a hemisphere. nilearn carries it
within its package, so that nothing is fetched.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GlionodeError

Points = NDArray[np.floating[Any]]
"""(points, 3): x, y, z in millimetres, in double precision unless there are very many."""
Triangles = NDArray[np.int64]
"""(triangles, 3): numbers of corners, counter-clockwise seen from outside."""

_FOLDER = "datasets/data/fsaverage5"
_MIDDLE_RAS_MM = np.array((0.0, -18.0, 4.0))
"""Middle of the brain in the surfaces' own coordinates: the origin of ours."""


class SurfacesMissing(GlionodeError):
    """The average surfaces are not on this machine."""


@dataclass(frozen=True, slots=True)
class Hemisphere:
    """One half of the average cortex, in template coordinates: LPS millimetres from the middle of the brain."""

    white: Points
    """Corners of the border between white and grey matter."""
    pial: Points
    """The same corners on the outer face of the grey matter."""
    triangles: Triangles
    """Of both surfaces."""


def from_ras(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Template coordinates of a place as atlases print it: RAS millimetres, origin near the anterior commissure."""
    return (-x - float(_MIDDLE_RAS_MM[0]), -y + float(_MIDDLE_RAS_MM[1]), z - float(_MIDDLE_RAS_MM[2]))


@cache
def average_cortex() -> tuple[Hemisphere, Hemisphere]:
    """Left and right. Raises SurfacesMissing where nilearn or nibabel is not installed."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("nibabel") is None:
        raise SurfacesMissing(
            "Heads of the grown family are made of nilearn's average surfaces, and nilearn is not installed here; "
            "install glionode[train]."
        )
    folder = Path(spec.submodule_search_locations[0]) / _FOLDER
    left, right = (_hemisphere(folder, side) for side in ("left", "right"))
    return left, right


def _hemisphere(folder: Path, side: str) -> Hemisphere:
    import nibabel

    loaded = []
    for name in ("white", "pial"):
        path = folder / f"{name}_{side}.gii.gz"
        if not path.is_file():
            raise SurfacesMissing(
                f"This nilearn has no {_FOLDER}/{path.name}, of which heads of the grown family are made; "
                "install glionode[train], which brings the version that has."
            )
        loaded.append(nibabel.load(path))
    white, pial = (_to_template(image.agg_data("pointset")) for image in loaded)
    return Hemisphere(white, pial, np.asarray(loaded[0].agg_data("triangle"), dtype=np.int64))


def _to_template(ras: NDArray[np.float32]) -> Points:
    # Two axes turn around: left stays left of right and triangles keep their outside.
    return np.asarray((np.asarray(ras, dtype=np.float64) - _MIDDLE_RAS_MM) * np.array((-1.0, -1.0, 1.0)))


def outward(points: Points, triangles: Triangles) -> Points:
    """Unit normal at each corner, (points, 3): mean of its triangles', weighted by their areas."""
    corners = points[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))
