"""Define the series of a phantom study: timing, geometry and the patient's small motions between series."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.labels import Role
from pipeline.volume import Geometry, Matrix, Vector

HEAD_CENTRE_MM = (0.0, -6.0, -3.0)
"""Centre of the fields of view in the head's world coordinates."""


class Timing(NamedTuple):
    """Timing and flip angle of a sequence."""

    echo_time_ms: float
    repetition_time_ms: float
    inversion_time_ms: float | None
    flip_angle_deg: float


@dataclass(frozen=True, slots=True)
class SeriesProtocol:
    """The header values and the geometry of one series."""

    name: str
    description: str
    role: Role
    """The sequence with which the head is scanned."""
    geometry: Geometry
    motion: Matrix | None
    timing: Timing
    scanning_sequence: tuple[str, ...] = ("SE",)
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
    slice_thickness_mm: float = 5.0
    wanted: bool = False
    """Whether a node should choose this series for its role; False for distractors."""
    contrast: bool = False

    @property
    def acquisition_type(self) -> str:
        """Return the value of (0018,0023)."""
        return "3D" if "GR" in self.scanning_sequence and self.slice_thickness_mm <= 3 else "2D"


def phantom_protocols(seed: int, frame_uid: str) -> tuple[SeriesProtocol, ...]:
    """Return the nine series in the order of their numbers; tilts and motions depend on the seed."""
    random = np.random.default_rng([seed, 20])
    slab = _tilted_axial((32, 256, 256), (5.5, 0.9, 0.9), 8.0 + random.uniform(-2, 2), frame_uid)
    thin = _tilted_axial((32, 160, 160), (5.5, 1.4, 1.4), -2.5 + random.uniform(-1, 1), frame_uid)
    reformat = _tilted_axial((56, 224, 224), (3.0, 1.0, 1.0), 0.0, frame_uid)
    sagittal = _sagittal((176, 224, 240), (1.0, 1.0, 1.0), 2.0 * random.uniform(-1, 1), frame_uid)
    moves = [_small_motion(random) for _ in range(4)]
    scout, spin_echo = Timing(3.2, 8.6, None, 20.0), Timing(8.4, 550.0, None, 90.0)
    turbo, flair = Timing(98.0, 5200.0, None, 150.0), Timing(93.0, 9000.0, 2500.0, 150.0)
    gradient, diffusion = Timing(2.5, 2000.0, 900.0, 9.0), Timing(87.0, 6200.0, None, 90.0)
    trace, adc = (("DERIVED", "PRIMARY", "DIFFUSION", kind, "ND", "NORM") for kind in ("TRACEW", "ADC"))
    mpr, subtraction = ("DERIVED", "SECONDARY", "MPR", "CSA MPR", "M", "ND", "NORM"), ("DERIVED", "SECONDARY", "SUB")
    echo_planar, mprage = ("EP",), ("GR", "IR")
    diffusion_name, mprage_name = "ep2d_diff_3scan_trace_p2", "t1_mprage_sag_p2_iso_KM"
    return (
        SeriesProtocol("loc", "localizer", Role.T1, slab, None, scout, ("GR",), slice_thickness_mm=7.0),
        SeriesProtocol("t1", "t1_se_tra", Role.T1, slab, moves[0], spin_echo),
        SeriesProtocol("t2", "t2_tse_tra", Role.T2, slab, moves[1], turbo),
        SeriesProtocol("flair", "t2_tirm_tra_dark-fluid", Role.FLAIR, slab, moves[2], flair, ("SE", "IR"), wanted=True),
        SeriesProtocol(
            "trace", f"{diffusion_name}_TRACEW", Role.DWI, thin, moves[3], diffusion, echo_planar, image_type=trace
        ),
        SeriesProtocol(
            *("adc", f"{diffusion_name}_ADC", Role.ADC, thin, moves[3], diffusion, echo_planar),
            image_type=adc,
            wanted=True,
        ),
        SeriesProtocol(
            *("t1ce", mprage_name, Role.T1CE, sagittal, None, gradient, mprage),
            slice_thickness_mm=1.0,
            wanted=True,
            contrast=True,
        ),
        SeriesProtocol(
            *("mpr", f"{mprage_name}_MPR_Tra", Role.T1CE, reformat, None, gradient, mprage),
            image_type=mpr,
            slice_thickness_mm=3.0,
            contrast=True,
        ),
        SeriesProtocol(
            *("sub", "t1_se_tra_KM_SUB", Role.T1CE, slab, moves[0], spin_echo), image_type=subtraction, contrast=True
        ),
    )


def _tilted_axial(shape: tuple[int, int, int], spacing_mm: Vector, tilt_deg: float, frame_uid: str) -> Geometry:
    """Return axial slices from feet to head, tilted about the left-right axis."""
    straight = Geometry.axial(shape, spacing_mm, (0.0, 0.0, 0.0), frame_uid)
    return _turned(straight, _rotation((math.radians(tilt_deg), 0.0, 0.0)))


def _sagittal(shape: tuple[int, int, int], spacing_mm: Vector, turn_deg: float, frame_uid: str) -> Geometry:
    """Return sagittal slices from left to right, rotated a little, as real heads are.

    Columns count towards the back, rows towards the feet.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[0, 0], affine[2, 1], affine[1, 2] = -spacing_mm[0], -spacing_mm[1], spacing_mm[2]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape, float) - 1) / 2)
    straight = Geometry.from_affine(affine, shape, frame_uid)
    return _turned(straight, _rotation((math.radians(turn_deg), 0.0, math.radians(turn_deg) / 2)))


def _turned(geometry: Geometry, rotation: NDArray[np.float64]) -> Geometry:
    """Return a grid centred on the origin, rotated about it and moved to the middle of the head."""
    rigid = np.eye(4)
    rigid[:3, :3] = rotation
    rigid[:3, 3] = HEAD_CENTRE_MM
    return Geometry.from_affine(rigid @ geometry.affine, geometry.shape, geometry.frame_of_reference_uid)


def _rotation(angles_rad: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the rotation matrix Rz Ry Rx of angles about x, y and z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


def _small_motion(random: np.random.Generator) -> Matrix:
    """Return a patient's random motion between two series: up to 1.5 degrees and 2 mm along each axis."""
    matrix = np.eye(4)
    angles = random.uniform(-1, 1, 3) * math.radians(1.5)
    matrix[:3, :3] = _rotation((float(angles[0]), float(angles[1]), float(angles[2])))
    matrix[:3, 3] = random.uniform(-2, 2, 3)
    rows = [(float(a), float(b), float(c), float(d)) for a, b, c, d in matrix]
    return (rows[0], rows[1], rows[2], rows[3])


def motion_parameters(motion: Matrix) -> tuple[float, float, float, float, float, float]:
    """Return rotations about x, y, z (radians, applied in that order) and translation (mm) of a rigid matrix."""
    matrix = np.array(motion)
    about_x = math.atan2(matrix[2, 1], matrix[2, 2])
    about_y = -math.asin(max(-1.0, min(1.0, matrix[2, 0])))
    about_z = math.atan2(matrix[1, 0], matrix[0, 0])
    return (about_x, about_y, about_z, float(matrix[0, 3]), float(matrix[1, 3]), float(matrix[2, 3]))


def localizer_planes(frame_uid: str) -> tuple[Geometry, ...]:
    """Return an axial, a sagittal and a coronal slice through the middle of the head."""
    axial = _tilted_axial((1, 144, 144), (7.0, 1.8, 1.8), 0.0, frame_uid)
    sagittal = _sagittal((1, 144, 144), (7.0, 1.8, 1.8), 0.0, frame_uid)
    coronal = _tilted_axial((1, 144, 144), (7.0, 1.8, 1.8), 90.0, frame_uid)
    return axial, sagittal, coronal
