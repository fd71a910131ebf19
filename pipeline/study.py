"""A study as its headers tell it: frozen values, no pixels. `scan` reads them from files."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.volume import Vector


@dataclass(frozen=True, slots=True)
class Instance:
    """The header fields of one SOP instance that choosing and reading need; absent or unreadable ones are None or ()."""

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
    """(0020,0037) direction along a row, then down a column"""
    pixel_spacing_mm: tuple[float, float] | None
    """(0028,0030) between rows, between columns"""
    frame_of_reference_uid: str
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    b_value: float | None
    temporal_position: int | None
    acquisition_number: int | None
    contrast_agent: str | None
    """Whether (0018,0010) names an agent; kept for rules only, never printed"""
    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    body_part: str


@dataclass(frozen=True, slots=True)
class Series:
    """Instances that share a SeriesInstanceUID."""

    series_instance_uid: str
    series_number: int | None
    description: str
    """(0008,103E) as written, blanks included"""
    protocol_name: str
    modality: str
    manufacturer: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Series that share a StudyInstanceUID."""

    study_instance_uid: str
    series: tuple[Series, ...]
