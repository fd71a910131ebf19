"""Hold the headers of a study as frozen values, without pixels; `pipeline.scan` reads them from files."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.volume import Vector


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How the numbers of pixels are written, compressed or not (PS3.5 section 8)."""

    bits_allocated: int
    bits_stored: int
    high_bit: int
    """Number of the highest bit of the value, from 0; BitsStored - 1 unless the value stands higher in its cell."""
    signed: bool
    is_float: bool
    """Whether they are in (7FE0,0008) or (7FE0,0009) instead of (7FE0,0010)."""
    padding: tuple[float, float] | None = None
    """The lowest and the highest stored value that mean no value (PS3.3 C.7.5.1.1.2), both included."""
    has_modality_lut: bool = False
    """Whether a table (0028,3000) stands in place of slope and intercept."""


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """Where uncompressed pixels lie in a file."""

    offset: int
    """Offset of the first byte, from the start of the file or, if `deflated`, of the inflated data set."""
    little_endian: bool
    deflated: bool = False


@dataclass(frozen=True, slots=True)
class RealWorldScale:
    """One item of RealWorldValueMappingSequence (PS3.3 C.7.6.16.2.11): stored value x slope + intercept, in `unit`."""

    slope: float
    intercept: float
    unit: str
    """Code value of the unit, UCUM, e.g. "um2/s"."""
    mapped: tuple[float, float] | None = None
    """The first and the last stored value that are mapped; None for all."""
    is_table: bool = False
    """Whether the item is a table of values, which is not read."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The functional groups of one frame of a multi-frame image (PS3.3 C.7.6.16). Absent values are None."""

    position_mm: Vector | None
    orientation: tuple[float, float, float, float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    image_type: tuple[str, ...]
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    b_value: float | None
    gradient: Vector | None
    temporal_position: int | None
    acquisition_number: int | None
    trigger_time_ms: float | None
    stack: str
    rescale_slope: float
    rescale_intercept: float
    real_world: RealWorldScale | None
    rescale_type: str = ""
    scale_slope: float | None = None
    """Private scale slope of Philips (2005,100E), by which stored values of different images are comparable."""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Whose image an object is, made comparable by `pipeline.identity`; never printed. Absent values are ""."""

    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    issuer_id: str = field(default="", repr=False)
    """The universal ID of the issuer, in (0010,0024)."""
    birth_date: str = field(default="", repr=False)
    """Digits of year, month and day, as far as they are known."""
    sex: str = field(default="", repr=False)
    """"F", "M" or ""."""
    name: frozenset[str] = field(default=frozenset(), repr=False)
    """Words of the name in Latin letters."""

    @property
    def is_named(self) -> bool:
        """Whether anything tells the patient from others."""
        return bool(self.patient_id or self.birth_date)


@dataclass(frozen=True, slots=True)
class Instance:
    """The header fields of one SOP instance that choosing and reading need; absent ones are None or ()."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    number_of_frames: int
    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    has_pixels: bool
    instance_number: int | None
    image_type: tuple[str, ...]
    position_mm: Vector | None
    """(0020,0032)"""
    orientation: tuple[float, float, float, float, float, float] | None
    """(0020,0037): direction along a row, then down a column."""
    pixel_spacing_mm: tuple[float, float] | None
    """(0028,0030): between rows, between columns."""
    frame_of_reference_uid: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    b_value: float | None
    temporal_position: int | None
    acquisition_number: int | None
    contrast_agent: str | None
    """(0018,0010), or "named" if only a code sequence names an agent; for rules, never printed."""
    scanning_sequence: tuple[str, ...]
    body_part: str
    acquisition_type: str = ""
    """(0018,0023): "2D", "3D" or empty."""
    slice_thickness_mm: float | None = None
    """(0018,0050); not the distance between slices, which may overlap or leave gaps."""
    acquired_at: str = ""
    """Date and time of acquisition as digits; used to order series of a study, never printed."""
    echo_number: int | None = None
    trigger_time_ms: float | None = None
    gradient: Vector | None = None
    """Direction of the diffusion gradient."""
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    real_world: RealWorldScale | None = None
    stored: StoredPixels | None = None
    """None if the pixels are compressed or missing."""
    frames: tuple[FrameHeader, ...] = ()
    """One per frame of an enhanced image; empty for an image without functional groups."""
    samples: SampleFormat | None = None
    """None without pixels."""
    has_rescale: bool = True
    """Whether a classic image gives its slope."""
    rescale_type: str = ""
    """(0028,1054): the unit after the rescale, in free text; never printed."""
    tile_count: int = 1
    """Slices that the image says it holds side by side."""
    series_instance_uid: str = ""
    """(0020,000E) of the image itself: the images of one acquisition may come under several."""
    patient: PatientIdentity = PatientIdentity()
    study_date: str = field(default="", repr=False)
    """Eight digits; so is `acquired_on`. Never printed."""
    acquired_on: str = field(default="", repr=False)
    scale_slope: float | None = None
    """As in FrameHeader."""
    demographics_sha256: str = field(default="", repr=False)
    """Digest of what its header says of patient and study, as bytes."""
    copies: tuple["Instance", ...] = ()
    """Other files with the same UIDs and other bytes."""


@dataclass(frozen=True, slots=True)
class Series:
    """Instances that share a SeriesInstanceUID."""

    series_instance_uid: str
    series_number: int | None
    description: str
    """(0008,103E), with leading and trailing spaces."""
    protocol_name: str
    modality: str
    manufacturer: str
    instances: tuple[Instance, ...]
    archive_type: str = ""
    """The type that the archive gives it, such as XNAT's scan type; never printed."""
    joined: tuple["Series", ...] = ()
    """The series that it was joined from, in the order of their numbers; empty for a series as it was sent."""


@dataclass(frozen=True, slots=True)
class Study:
    """Series that share a StudyInstanceUID."""

    study_instance_uid: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is not part of a study."""

    path: Path
    reason: str
    damaged: bool = False
    """Whether the file seems to be damaged DICOM, so that a series may miss an image."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The studies found in files and folders."""

    studies: tuple[Study, ...]
    ignored: tuple[Ignored, ...]
