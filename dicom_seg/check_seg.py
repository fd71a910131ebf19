"""Check a SEG: its segments, the position of its frames against their source images, and its voxels."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_seg.known_objects import KnownObjects
from dicom_seg.seg_frames import SegFrame, read_frames, read_voxels, voxel_mm3
from pipeline.study import FrameHeader, Instance, Series

POSITION_TOLERANCE_MM = 1e-3
"""Largest distance between the positions of a frame and of its source image."""
_DIRECTION_TOLERANCE = 1e-5
_SPACING_TOLERANCE_MM = 1e-4
"""Both are allowed on top of the differences within the source series: scanners round one orientation differently."""

_Fault = tuple[int, str, str]
"""(frame number, what is wrong with the frame, UID of its source image or "")."""


@dataclass(frozen=True, slots=True)
class ExpectedVoxels:
    """The voxels that a SEG must contain."""

    masks: NDArray[np.bool_]
    """(segments, slices, rows, columns)"""
    slices: Mapping[tuple[str, int], int]
    """Slice index by (SOP instance UID, frame number) of the slice's image."""


@dataclass(frozen=True, slots=True)
class CheckedSeg:
    """What the check of a SEG found, and what reports are compared with."""

    problems: tuple[str, ...]
    voxels: Mapping[int, int]
    """Number of set voxels by segment number; empty where the pixels cannot be read."""
    voxel_mm3: float | None
    """Volume of a voxel; None where the SEG does not give its slice spacing."""


def check_seg(dataset: Dataset, known: KnownObjects, expected: ExpectedVoxels | None = None) -> CheckedSeg:
    """Check the segments, frames and voxels of a SEG against its source images, as far as those are known.

    Raises pydicom's own error (such as AttributeError) where a mandatory attribute is missing.
    """
    described = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    frames = read_frames(dataset)
    problems = [*_segment_problems(dataset, described, known)]
    faults = (*_segment_faults(frames, described), *_source_faults(frames, dataset, known.strict))
    problems += _sentences((*faults, *_position_faults(frames, dataset, known)))
    voxels: dict[int, int] = {}
    if unreadable := _unreadable(dataset, len(frames)):
        problems.append(unreadable)
    else:
        voxels = dict.fromkeys(described, 0)
        if not _count(dataset, frames, voxels, expected):
            problems.append("its voxels are not those of the masks.")
    return CheckedSeg(tuple(problems), voxels, voxel_mm3(dataset, frames[0]) if frames else None)


def _segment_problems(dataset: Dataset, described: list[int], known: KnownObjects) -> Iterator[str]:
    # PS3.3 C.8.20.2
    if described != list(range(1, len(described) + 1)):
        yield "its segments are not numbered from 1 without gaps."
    tracking = [str(segment.TrackingUID) for segment in dataset.SegmentSequence if "TrackingUID" in segment]
    if len(set(tracking)) < len(tracking):
        yield "two of its segments have the same TrackingUID."
    series = [str(each.get("SeriesInstanceUID", "")) for each in dataset.get("ReferencedSeriesSequence") or ()]
    # Several source series made OHIF 3.13 attach the overlay to the wrong one.
    if known.strict and len(series) != 1 and not (series and known.is_one_volume(series)):
        yield f"it refers to {len(series)} series instead of one."


def _segment_faults(frames: Sequence[SegFrame], described: Iterable[int]) -> Iterator[_Fault]:
    known, seen = set(described), set()
    for frame in frames:
        if frame.segment not in known:
            yield frame.number, "its segment is not described", ""
        key = (frame.segment, frame.sources)
        if frame.sources and key in seen:
            yield frame.number, "a second frame of the same segment on source image {uid}", frame.sources[0][0]
        seen.add(key)


def _source_faults(frames: Sequence[SegFrame], dataset: Dataset, strict: bool) -> Iterator[_Fault]:
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    }
    for frame in frames:
        # Viewers guess where there is none: an empty derivation sequence painted tumour on the wrong slice.
        if not frame.sources:
            yield frame.number, "no source image", ""
        elif strict and len(frame.sources) > 1:
            yield frame.number, "more than one source image", ""
        for uid, _ in frame.sources:
            if uid not in listed:
                yield frame.number, "derived from {uid}, which is not among the images of its referenced series", uid


def _position_faults(frames: Sequence[SegFrame], dataset: Dataset, known: KnownObjects) -> Iterator[_Fault]:
    spreads: dict[str, tuple[float, float]] = {}
    size, frame_of_reference = (int(dataset.Rows), int(dataset.Columns)), str(dataset.get("FrameOfReferenceUID", ""))
    for frame in frames:
        for uid, number in frame.sources:
            source = known.by_uid.get(uid)
            if source is None or source.image is None or source.series is None:
                continue
            if source.series_instance_uid not in spreads:
                spreads[source.series_instance_uid] = _spread(source.series)
            if size != (source.rows, source.columns):
                yield frame.number, "its rows and columns are not those of source image {uid}", uid
            if not _within(frame_of_reference, source.image, source.series):
                yield frame.number, "its frame of reference is not that of source image {uid}", uid
            yield from _plane_faults(frame, uid, source.frame(number), spreads[source.series_instance_uid])


def _within(frame_of_reference: str, image: Instance, series: Series) -> bool:
    """Return whether a source image is in a frame of reference.

    Where every image of the series names one of its own, the first stands for all (`pipeline.frame_of_reference`).
    """
    if image.frame_of_reference_uid in ("", frame_of_reference):
        return True
    named = {one.frame_of_reference_uid for one in series.instances}
    return len(named) > 2 and frame_of_reference in named


def _plane_faults(
    frame: SegFrame, uid: str, image: Instance | FrameHeader | None, spread: tuple[float, float]
) -> Iterator[_Fault]:
    if image is None:
        yield frame.number, "derived from a frame that {uid} does not have", uid
        return
    if not _near(frame.position_mm, image.position_mm, POSITION_TOLERANCE_MM):
        yield frame.number, "its position is not that of source image {uid}", uid
    if not _near(frame.orientation, image.orientation, spread[0] + _DIRECTION_TOLERANCE):
        yield frame.number, "its orientation is not that of source image {uid}", uid
    if not _near(frame.spacing_mm, image.pixel_spacing_mm, spread[1] + _SPACING_TOLERANCE_MM):
        yield frame.number, "its pixel spacing is not that of source image {uid}", uid


def _near(found: tuple[float, ...], expected: tuple[float, ...] | None, tolerance: float) -> bool:
    """Return whether two vectors agree within `tolerance`; True where `expected` is not known."""
    return expected is None or (len(found) == len(expected) and math.dist(found, expected) <= tolerance)


def _spread(series: Series) -> tuple[float, float]:
    """Return the largest differences of orientation and of pixel spacing (mm) from those of a series' first image."""
    images = [each for instance in series.instances for each in (instance.frames or (instance,))]
    directions = [each.orientation for each in images if each.orientation]
    spacings = [each.pixel_spacing_mm for each in images if each.pixel_spacing_mm]
    return (
        max((math.dist(each, directions[0]) for each in directions), default=0.0),
        max((math.dist(each, spacings[0]) for each in spacings), default=0.0),
    )


def _sentences(faults: Iterable[_Fault]) -> list[str]:
    """Return one sentence for each kind of fault, because usually all frames share it."""
    kinds: dict[str, dict[int, str]] = {}
    for number, fault, uid in faults:
        kinds.setdefault(fault, {}).setdefault(number, uid)
    sentences = []
    for fault, frames in kinds.items():
        number, uid = next(iter(frames.items()))
        more = f" and {len(frames) - 1} more" if len(frames) > 1 else ""
        sentences.append(f"frame {number}{more}: {fault.format(uid=uid)}.")
    return sentences


def _unreadable(dataset: Dataset, described: int) -> str:
    """Return why the voxels cannot be read; "" where they can."""
    if dataset.SegmentationType != "BINARY" or int(dataset.BitsAllocated) != 1:
        return "its voxels are not 0 and 1 in single bits (segmentation type BINARY)."
    if UID(str(dataset.file_meta.TransferSyntaxUID)).is_compressed:
        return "its voxels are compressed, which some readers of SEG refuse."
    number = int(dataset.NumberOfFrames)
    needed = -(-number * int(dataset.Rows) * int(dataset.Columns) // 8)
    needed += needed % 2  # PS3.5 8.1.1: padded to an even length
    if described != number or len(dataset.PixelData) != needed:
        present = len(dataset.PixelData)
        return f"its {number} frames have {described} descriptions, and {present} bytes of pixels instead of {needed}."
    return ""


def _count(
    dataset: Dataset, frames: Sequence[SegFrame], voxels: dict[int, int], expected: ExpectedVoxels | None
) -> bool:
    """Add the number of set voxels to `voxels`; return False where they differ from the expected ones."""
    as_expected = True
    missing = {} if expected is None else dict.fromkeys(np.ndindex(expected.masks.shape[:2]))
    for frame, image in zip(frames, read_voxels(dataset), strict=True):
        voxels[frame.segment] = voxels.get(frame.segment, 0) + int(np.count_nonzero(image))
        if expected is not None:
            index = (frame.segment - 1, expected.slices.get(frame.sources[0], -1) if frame.sources else -1)
            if index not in missing or not np.array_equal(image, expected.masks[index]):
                as_expected = False
            missing.pop(index, None)
    # A slice without a frame is a slice without a set voxel.
    return as_expected and not (expected is not None and any(expected.masks[index].any() for index in missing))
