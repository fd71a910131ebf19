"""Hold voxels with their geometry: LPS, millimetres, arrays (slice, row, column)."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.remarks import Remark

Vector = tuple[float, float, float]
Matrix = tuple[tuple[float, float, float, float], ...]
"""A 4 x 4 homogeneous matrix between world coordinates, LPS millimetres."""
IDENTITY: Matrix = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def _vector(values: NDArray[np.float64]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))


@dataclass(frozen=True, slots=True)
class Geometry:
    """The positions of the voxels of an array in the patient.

    World coordinates are DICOM's patient coordinates (PS3.3 C.7.6.2.1.1): LPS, millimetres. A voxel's index is
    (slice, row, column) and means the voxel's centre.
    """

    shape: tuple[int, int, int]
    """Numbers of slices, rows and columns."""
    origin_mm: Vector
    """World coordinates of voxel (0, 0, 0)."""
    slice_step_mm: Vector
    """World vector from one slice to the next; its length is the slice spacing."""
    row_step_mm: Vector
    """World vector from one row to the next (down the image)."""
    column_step_mm: Vector
    """World vector from one column to the next (along a row)."""
    frame_of_reference_uid: str
    """(0020,0052); world coordinates of two geometries are comparable only if it is the same."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4 matrix from homogeneous (slice, row, column, 1) to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, 0] = self.slice_step_mm
        matrix[:3, 1] = self.row_step_mm
        matrix[:3, 2] = self.column_step_mm
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def spacing_mm(self) -> Vector:
        """Distances between neighbouring slices, rows and columns."""
        return _vector(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre_mm(self) -> Vector:
        """World coordinates of the middle of the grid."""
        middle = (np.array(self.shape, float) - 1) / 2
        return _vector(self.affine[:3, :3] @ middle + self.affine[:3, 3])

    def cropped(self, box: tuple[slice, slice, slice]) -> Self:
        """Return the geometry of `array[box]`; the slices need a start and a stop, and no step."""
        first = np.array([part.start for part in box], float)
        corner = self.affine[:3, :3] @ first + self.affine[:3, 3]
        return replace(self, shape=tuple(part.stop - part.start for part in box), origin_mm=_vector(corner))

    def averaged(self, factors: tuple[int, int, int]) -> Self:
        """Return the geometry of an array in which so many voxels along each axis became one, the last few left out."""
        affine = self.affine
        affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
        affine[:3, :3] *= np.array(factors)
        slices, rows, columns = (size // factor for size, factor in zip(self.shape, factors, strict=True))
        return self.from_affine(affine, (slices, rows, columns), self.frame_of_reference_uid)

    @classmethod
    def from_affine(cls, affine: NDArray[np.float64], shape: tuple[int, int, int], frame_of_reference_uid: str) -> Self:
        """Return the geometry whose `affine` is the given 4 x 4 matrix."""
        return cls(
            shape=shape,
            origin_mm=_vector(affine[:3, 3]),
            slice_step_mm=_vector(affine[:3, 0]),
            row_step_mm=_vector(affine[:3, 1]),
            column_step_mm=_vector(affine[:3, 2]),
            frame_of_reference_uid=frame_of_reference_uid,
        )

    @classmethod
    def axial(
        cls, shape: tuple[int, int, int], spacing_mm: Vector, centre_mm: Vector, frame_of_reference_uid: str
    ) -> Self:
        """Return an axis-aligned grid: slices towards the head, rows towards the back, columns towards the left."""
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
        affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(shape, float) - 1) / 2)
        return cls.from_affine(affine, shape, frame_of_reference_uid)


@dataclass(frozen=True, slots=True)
class Frame:
    """The source image of one slice of a volume."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int
    """Frame number from 1 (PS3.3 C.7.6.16); 1 in a classic single-frame image."""
    series_instance_uid: str = ""
    """Of the image: the images of one volume may come in several series. Empty: that of the volume's series."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels with their geometry and, if they were read from images, the source of each slice."""

    pixels: NDArray[np.float32]
    """(slice, row, column), rescaled. ADC in 10^-6 mm2/s; NaN for missing values (failed fits)."""
    geometry: Geometry
    frames: tuple[Frame, ...] = ()
    """One per slice, in slice order; empty for volumes that were computed."""
    notes: tuple[str, ...] = ()
    """Technical notes for the report, such as the factor applied to ADC units."""
    remarks: tuple[Remark, ...] = ()
    """What a reader of the result must know about it."""
    series_instance_uid: str = ""
    """(0020,000E) of the images; empty for volumes that were computed."""

    def __post_init__(self) -> None:
        assert self.pixels.shape == self.geometry.shape, (self.pixels.shape, self.geometry.shape)
        assert not self.frames or len(self.frames) == self.geometry.shape[0]
