"""The door of this room: a result to the DICOM objects that are sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_seg.capture import encode_capture
from dicom_seg.predecessor import Predecessor, predecessors_of
from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import SourceHeaders, read_headers
from dicom_seg.sr import encode_sr
from dicom_seg.sr_diameters import encode_diameters
from models.labels import Role
from pipeline.result import SegmentationResult, SourceSeries


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which objects are wanted of a study."""

    seg_on: tuple[Role, ...] = (Role.T1CE, Role.FLAIR, Role.ADC)
    """SEG on the slices of these series: all labels on T1CE, elsewhere the label that is defined there."""
    measurements: bool = True
    """SR of volumes, lesions and ADC; it refers to the SEG on T1CE."""
    diameters: bool = True
    """SR of diameters, where an enhancing lesion is measurable."""
    capture: bool = True
    """Pictures with contours and a table."""

    def __post_init__(self) -> None:
        if self.measurements and Role.T1CE not in self.seg_on:
            raise ValueError("measurements refer to the SEG on T1CE, which is not wanted")


_ALL = Outputs()
_MEASUREMENTS, _DIAMETERS = "sr-measurements.dcm", "sr-diameters.dcm"


@dataclass(frozen=True, slots=True)
class EncodedObject:
    """A DICOM object, ready to write or send."""

    dataset: Dataset
    file_name: str
    """Free of anything about the patient."""
    sop_class_uid: str
    series_description: str


def encode(
    result: SegmentationResult,
    started: datetime,
    wanted: Outputs = _ALL,
    predecessors: Sequence[Predecessor] = (),
) -> tuple[EncodedObject, ...]:
    """The objects that are wanted of a result, those that others refer to first.

    SEG on another series than T1CE needs its masks in `result.native`, the capture `result.panels`. The headers of the
    source series are read again from their files. `started` is when the analysis began (IHE RAD AIR wants it as content
    date and time), in the time zone of the study's own times. `predecessors` are the study's earlier reports, which
    the new ones name. The same result, time and predecessors give the same bytes. Raises OutputRefused where a source
    file is gone.
    """
    # pydicom's complaints about a scanner's values quote them: a birth date would stand in the log.
    with disable_value_validation():
        return tuple(_encode_wanted(result, started, wanted, predecessors))


def _encode_wanted(
    result: SegmentationResult, started: datetime, wanted: Outputs, predecessors: Sequence[Predecessor]
) -> Iterator[EncodedObject]:
    reports = [_MEASUREMENTS] * wanted.measurements + [_DIAMETERS] * bool(wanted.diameters and result.diameters)
    source = read_headers(result.source(Role.T1CE))
    if Role.T1CE in wanted.seg_on:
        seg = encode_seg(result, result.on_t1ce(), source, started)
        yield _named(seg, "seg-t1ce.dcm")
    for on in result.native:
        if on.role in wanted.seg_on:
            headers = read_headers(result.source(on.role))
            yield _named(encode_seg(result, on, headers, started), f"seg-{on.role.lower()}.dcm")
    if wanted.measurements:
        library = [_middle(taken) for taken in result.sources]
        earlier = predecessors_of(_MEASUREMENTS, predecessors, reports)
        yield _named(encode_sr(result, source, library, seg, started, earlier), _MEASUREMENTS)
    if _DIAMETERS in reports:
        earlier = predecessors_of(_DIAMETERS, predecessors, reports)
        yield _named(encode_diameters(result, source, started, earlier), _DIAMETERS)
    if wanted.capture:
        for number, dataset in enumerate(encode_capture(result, source, started), 1):
            yield _named(dataset, f"capture-{number:02}.dcm")


def _middle(source: SourceSeries) -> SourceHeaders:
    """The headers of a series' middle slice alone."""
    return read_headers(replace(source, frames=(source.frames[len(source.frames) // 2],)))


def _named(dataset: Dataset, file_name: str) -> EncodedObject:
    return EncodedObject(dataset, file_name, str(dataset.SOPClassUID), str(dataset.SeriesDescription))
