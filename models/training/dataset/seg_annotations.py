"""Read annotations from a DICOM SEG (PS3.3 A.51) of any origin: BINARY, FRACTIONAL or LABELMAP."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_seg import codes
from dicom_seg.equipment import DEVICE_NAME, MANUFACTURER
from dicom_seg.seg_frames import SegFrame, read_frames
from models.labels import ENHANCING_TUMOUR
from models.training.dataset.annotation import Annotation, LabelNames, Part
from models.training.dataset.manifest import Annotator
from models.training.dataset.writer import CaseRefused
from pipeline.guarded_stream import PARSER_FAILURES
from pipeline.volume import Geometry

SEG_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
"""Segmentation Storage and Label Map Segmentation Storage (PS3.4 B.5)."""
_BY_CODE = {(codes.ENHANCING_LESION.value, codes.ENHANCING_LESION.scheme_designator): ENHANCING_TUMOUR.name}
"""Property types of a single label. The other two labels share a type and are told apart by name."""


def read_seg(path: Path, names: LabelNames) -> tuple[Annotation, ...]:
    """Return an annotation for every label in a SEG. Segments of one label are joined, other segments are ignored.

    A segment without voxels is an empty label, not a missing one. Raises CaseRefused if the file cannot be read.
    """
    uid = "of unknown UID"
    try:
        dataset = dcmread(path)
        uid = str(dataset.SOPInstanceUID)
        labels = {int(segment.SegmentNumber): _label(segment, names) for segment in dataset.SegmentSequence}
        automatic = {
            int(segment.SegmentNumber): segment.get("SegmentAlgorithmType") == "AUTOMATIC"
            for segment in dataset.SegmentSequence
        }
        frames = read_frames(dataset)
        voxels = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
        if len(frames) != len(voxels):
            raise CaseRefused(f"SEG {uid} has {len(voxels)} frames but describes {len(frames)}. Export it again.")
        series = tuple(str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ())
        return tuple(
            Annotation(
                label=label,
                parts=_parts(dataset, frames, voxels, {number for number in labels if labels[number] == label}),
                annotator=_annotator(dataset, all(automatic[number] for number in labels if labels[number] == label)),
                annotated_at=_when(dataset),
                series_instance_uid=series[0] if len(series) == 1 else "",
                where=f"SEG {uid}",
            )
            for label in sorted({label for label in labels.values() if label is not None})
        )
    except PARSER_FAILURES as exc:
        raise CaseRefused(f"SEG {uid} cannot be read ({type(exc).__name__}). Export it again, or remove it.") from exc


def referenced_series(path: Path) -> tuple[str, ...]:
    """Return the UIDs of the series that a SEG references; () if there are none or the file is damaged."""
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["ReferencedSeriesSequence"])
        return tuple(str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ())
    except PARSER_FAILURES:
        return ()


def _label(segment: Dataset, names: LabelNames) -> str | None:
    types = segment.get("SegmentedPropertyTypeCodeSequence") or ()
    values = [(str(each.get("CodeValue", "")), str(each.get("CodingSchemeDesignator", ""))) for each in types]
    texts = (str(segment.get("SegmentLabel", "")), str(segment.get("TrackingID", "")))
    own = names.label_of_name(*texts, *(value for value, _ in values))
    return own or next((_BY_CODE[value] for value in values if value in _BY_CODE), None)


def _annotator(dataset: Dataset, automatic: bool) -> Annotator:
    """Return NODE or PROGRAM if all segments are AUTOMATIC (PS3.3 C.8.20.2: calculated), else PERSON."""
    ours = dataset.get("Manufacturer") == MANUFACTURER and dataset.get("ManufacturerModelName") == DEVICE_NAME
    if not automatic:
        return Annotator.PERSON
    return Annotator.NODE if ours else Annotator.PROGRAM


def _when(dataset: Dataset) -> str:
    for date, time in (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime")):
        if dataset.get(date):
            whole, _, fraction = str(dataset.get(time) or "").partition(".")
            return f"{dataset.get(date)}{whole:0<6}.{fraction:0<6}"
    return ""


def _parts(
    dataset: Dataset, frames: Sequence[SegFrame], voxels: NDArray[np.generic], segments: set[int]
) -> tuple[Part, ...]:
    """Return the non-empty frames of some segments, one part per frame."""
    kind = str(dataset.SegmentationType)
    half = 0.5 * int(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 0.5
    frame_of_reference = str(dataset.get("FrameOfReferenceUID", ""))
    parts: list[Part] = []
    for frame, values in zip(frames, voxels, strict=True):
        if kind == "LABELMAP":
            mask = np.isin(values, list(segments))
        elif frame.segment in segments:
            mask = np.asarray(values, np.float32) >= half
        else:
            continue
        if mask.any():
            parts.append((mask[None], _plane(frame, mask.shape, frame_of_reference)))
    return tuple(parts)


def _plane(frame: SegFrame, shape: tuple[int, ...], frame_of_reference: str) -> Geometry:
    """Return the grid of a frame, with the unit normal as slice step. Raises ValueError if it has no position."""
    if len(frame.position_mm) != 3 or len(frame.orientation) != 6 or len(frame.spacing_mm) != 2:
        raise ValueError("a frame without a position")
    affine = np.eye(4)
    along_row, down_column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    affine[:3, 0] = np.cross(along_row, down_column)
    affine[:3, 1] = down_column * frame.spacing_mm[0]
    affine[:3, 2] = along_row * frame.spacing_mm[1]
    affine[:3, 3] = frame.position_mm
    return Geometry.from_affine(affine, (1, shape[0], shape[1]), frame_of_reference)
