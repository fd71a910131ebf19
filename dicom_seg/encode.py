"""The door of this room: a result to the DICOM objects that are sent."""

from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_seg.seg import encode_seg
from dicom_seg.source import SourceHeaders, read_headers
from dicom_seg.sr import encode_sr
from models.labels import Role
from pipeline.result import SegmentationResult, SourceSeries


@dataclass(frozen=True, slots=True)
class EncodedObject:
    """A DICOM object, ready to write or send."""

    dataset: Dataset
    file_name: str
    """Free of anything about the patient."""
    sop_class_uid: str
    series_description: str


def encode(result: SegmentationResult, started: datetime) -> tuple[EncodedObject, ...]:
    """SEG on T1CE, SEG on each other series that the result has masks for, and SR.

    The headers of the source series are read again from their files.
    `started` is when the analysis began (IHE RAD AIR wants it as content date and time), in the time zone of the
    study's own times. The same result and time give the same bytes. Raises OutputRefused where a source file is gone.
    """
    # pydicom's complaints about a scanner's values quote them: a birth date would stand in the log.
    with disable_value_validation():
        source = read_headers(result.source(Role.T1CE))
        seg = encode_seg(result, result.on_t1ce(), source, started)
        native = [
            _named(encode_seg(result, on, read_headers(result.source(on.role)), started), f"seg-{on.role.lower()}.dcm")
            for on in result.native
        ]
        library = [_middle(taken) for taken in result.sources]
        sr = encode_sr(result, source, library, seg, started)
    return _named(seg, "seg-t1ce.dcm"), *native, _named(sr, "sr-measurements.dcm")


def _middle(source: SourceSeries) -> SourceHeaders:
    """The headers of a series' middle slice alone."""
    return read_headers(replace(source, frames=(source.frames[len(source.frames) // 2],)))


def _named(dataset: Dataset, file_name: str) -> EncodedObject:
    return EncodedObject(dataset, file_name, str(dataset.SOPClassUID), str(dataset.SeriesDescription))
