"""A head of a few simple tissues in memory, scanned on any grid after any motion, to test registration."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from pipeline.volume import Geometry, Volume

FRAME, OTHER = "1.2.3", "1.2.4"
GRID = Geometry.axial((48, 60, 52), (3.0, 3.0, 3.0), (5, -10, 12), FRAME)
THICK = Geometry.axial((30, 66, 60), (5.5, 3.0, 3.0), (5, -10, 12), FRAME)
CENTRE = np.array([5.0, -10.0, 12.0])
T1CE_VALUES = (0.0, 400, 650, 150, 900, 60)
FLAIR_VALUES = (0.0, 450, 300, 800, 120, 40)
ADC_VALUES = (0.0, 1400, 800, 1100, 2900, 0)
Points = NDArray[np.float64]


def head(points: Points, seed: int = 0) -> NDArray[np.intp]:
    """Tissue of a head with skin, bone, a brain and many parts of three kinds in it; another seed is another person."""
    random = np.random.default_rng(seed)
    x, y, z = (points[axis] - CENTRE[axis] for axis in range(3))
    scale = 1 + 0.15 * random.uniform(-1, 1, 3)
    radius = np.sqrt((x / 62 / scale[0]) ** 2 + (y / 75 / scale[1]) ** 2 + (z / 60 / scale[2]) ** 2)
    tissue = np.where(radius < 1, 1, 0)
    tissue[radius < 0.92] = 5
    tissue[radius < 0.84] = 2
    for number in range(40):
        at, size = random.uniform(-45, 45, 3), random.uniform(6, 16, 3)
        part = ((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2 + ((z - at[2]) / size[2]) ** 2 < 1
        tissue[part & (radius < 0.84)] = (2, 3, 4)[number % 3]
    return tissue


def world_points(geometry: Geometry, to_head: Points) -> Points:
    """Return the points of a grid in the head's coordinates, (3, slices, rows, columns)."""
    matrix = to_head @ geometry.affine
    points = np.einsum("ij,jsrc->isrc", matrix[:3, :3], np.indices(geometry.shape))
    return np.asarray(points + matrix[:3, 3, None, None, None])


def scan(
    values: tuple[float, ...], geometry: Geometry = THICK, motion: Points | None = None, seed: int = 0, uid: str = "1.9"
) -> Volume:
    """Scan a head that `motion` has moved in the scanner's world."""
    to_head = np.linalg.inv(motion if motion is not None else np.eye(4))
    pixels = gaussian_filter(np.array(values)[head(world_points(geometry, to_head), seed)], (0, 0.6, 0.6))
    real, imaginary = np.random.default_rng(seed + 9).normal(0, 8, (2, *geometry.shape))
    return Volume(np.hypot(pixels + real, imaginary).astype(np.float32), geometry, series_instance_uid=uid)


def motion_of(angles_deg: list[float], shift_mm: list[float]) -> Points:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = CENTRE + shift_mm - matrix[:3, :3] @ CENTRE
    return matrix


def moved(volume: Volume, motion: Points, frame: str = FRAME) -> Volume:
    """Return a scan whose slices were planned on the moved head: its picture is the same, and its place another."""
    geometry = Geometry.from_affine(motion @ volume.geometry.affine, volume.geometry.shape, frame)
    return replace(volume, geometry=geometry)


def error_mm(matrix: ArrayLike, truth: Points) -> float:
    """Mean distance between where two motions take points on a sphere of 60 mm, about the surface of the head."""
    directions = np.random.default_rng(0).normal(size=(3, 50))
    points = np.vstack([CENTRE[:, None] + 60 * directions / np.linalg.norm(directions, axis=0), np.ones(50)])
    return float(np.linalg.norm(((np.array(matrix) - truth) @ points)[:3], axis=0).mean())
