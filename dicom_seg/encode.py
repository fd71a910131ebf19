"""Encode a result as the DICOM objects that are sent: SEG, structured reports and secondary captures."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from io import BytesIO

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_seg.capture import encode_capture
from dicom_seg.predecessor import Predecessor, find_predecessors
from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import SourceHeaders, read_headers
from dicom_seg.sr import encode_sr
from dicom_seg.sr_diameters import encode_diameters
from dicom_seg.write import as_bytes
from models.labels import Role
from pipeline.result import SegmentationResult, SourceSeries


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which objects to make of a study."""

    seg_on: tuple[Role, ...] = (Role.T1CE, Role.FLAIR, Role.ADC)
    """SEGs on the slices of these series: all labels on T1CE, on others the label that is defined there. In a study
    without T1CE, "T1CE" stands for the reference series (`pipeline.reference`)."""
    measurements: bool = True
    """SR with volumes, lesion counts and ADC; it refers to the SEG with all labels."""
    diameters: bool = True
    """SR with diameters, if an enhancing lesion is measurable."""
    capture: bool = True
    """Pictures with contours and a table."""

    def __post_init__(self) -> None:
        if self.measurements and Role.T1CE not in self.seg_on:
            raise ValueError("measurements refer to the SEG on T1CE, which is not in seg_on")


_ALL = Outputs()
_MEASUREMENTS, _DIAMETERS = "sr-measurements.dcm", "sr-diameters.dcm"


@dataclass(frozen=True, slots=True)
class EncodedObject:
    """A DICOM object, ready to write or send."""

    dataset: Dataset
    file_name: str
    """Contains nothing about the patient."""
    sop_class_uid: str
    series_description: str
    content: bytes = field(default=b"", repr=False)
    """The file of the object, where `dataset` was read from it."""


def encode(
    result: SegmentationResult,
    started: datetime,
    wanted: Outputs = _ALL,
    predecessors: Sequence[Predecessor] = (),
) -> tuple[EncodedObject, ...]:
    """Return the wanted objects of a result; an object comes after those that it refers to.

    A SEG on another series than the reference needs its masks in `result.native`, the captures need `result.panels`.
    The headers of the source series are read again from their files. `started` is when the analysis began (IHE RAD AIR
    asks for it as content date and time), and is written in the time zone of the study. `predecessors` are the study's
    earlier reports, which the new ones name. The same result, time and predecessors give the same bytes. Raises
    OutputRefused where a source file is missing.
    """
    # pydicom's warnings about malformed values quote them, so a birth date could reach the log.
    with disable_value_validation(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown encoding", UserWarning)  # of the source; its bytes are copied
        return tuple(_encode_wanted(result, started, wanted, predecessors))


def _encode_wanted(
    result: SegmentationResult, started: datetime, wanted: Outputs, predecessors: Sequence[Predecessor]
) -> Iterator[EncodedObject]:
    reports = [_MEASUREMENTS] * wanted.measurements + [_DIAMETERS] * bool(wanted.diameters and result.diameters)
    source = read_headers(result.source(result.reference))
    if Role.T1CE in wanted.seg_on:
        seg = encode_seg(result, result.on_reference(), source, started)
        yield _encoded(seg, f"seg-{result.reference.lower()}.dcm")
    for on in result.native:
        if on.role in wanted.seg_on and on.labels:
            headers = read_headers(result.source(on.role))
            yield _encoded(encode_seg(result, on, headers, started), f"seg-{on.role.lower()}.dcm")
    if wanted.measurements:
        library = [_middle_slice(each) for each in result.sources]
        earlier = find_predecessors(_MEASUREMENTS, predecessors, reports)
        report = partial(encode_sr, result, source, library, seg, started)
        yield _encoded(_with_predecessors(report, earlier), _MEASUREMENTS)
    if _DIAMETERS in reports:
        earlier = find_predecessors(_DIAMETERS, predecessors, reports)
        yield _encoded(_with_predecessors(partial(encode_diameters, result, source, started), earlier), _DIAMETERS)
    if wanted.capture:
        for number, dataset in enumerate(encode_capture(result, source, started), 1):
            yield _encoded(dataset, f"capture-{number:02}.dcm")


def _with_predecessors(report: Callable[..., Dataset], earlier: Sequence[Predecessor]) -> Dataset:
    """Encode a report that names its predecessors; one that is made again is not its own predecessor."""
    alone = report(())
    others = tuple(each for each in earlier if each.sop_instance_uid != alone.SOPInstanceUID)
    return report(others) if others else alone


def _middle_slice(source: SourceSeries) -> SourceHeaders:
    """Return the headers of the middle slice of a series."""
    return read_headers(replace(source, frames=(source.frames[len(source.frames) // 2],)))


def _encoded(dataset: Dataset, file_name: str) -> EncodedObject:
    # Read back, so that what is checked is what is written and sent.
    content = as_bytes(dataset)
    read = dcmread(BytesIO(content))
    return EncodedObject(read, file_name, str(dataset.SOPClassUID), str(dataset.SeriesDescription), content)
