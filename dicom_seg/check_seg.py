"""The look at a SEG: its segments, its frames against their source images, its voxels. Shares nothing with encoders."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_seg.at_hand import AtHand
from dicom_seg.seg_frames import SegFrame, read_frames, read_voxels, voxel_mm3
from pipeline.study import FrameHeader, Instance, Series

PLACE_TOLERANCE_MM = 1e-3
"""How far a frame may stand from the image that it was made for."""
_DIRECTION_TOLERANCE = 1e-5
_SPACING_TOLERANCE_MM = 1e-4
"""Both beyond what the images of a series differ from each other: scanners spell one orientation in many ways."""

_Fault = tuple[int, str, str]
"""Number of a frame, what is wrong with it, and the UID of its source image or ""."""


@dataclass(frozen=True, slots=True)
class ExpectedVoxels:
    """What a SEG must hold."""

    masks: NDArray[np.bool_]
    """(segments, slices, rows, columns)"""
    slices: Mapping[tuple[str, int], int]
    """Index of the slice by (SOP instance UID, frame number) of its image."""


@dataclass(frozen=True, slots=True)
class SegLook:
    """What was seen of a SEG."""

    problems: tuple[str, ...]
    voxels: Mapping[int, int]
    """Set voxels by segment number; empty where the pixels cannot be read."""
    voxel_mm3: float | None
    """None where the SEG does not say how far apart its slices are."""


def look_at_seg(dataset: Dataset, at_hand: AtHand, expected: ExpectedVoxels | None = None) -> SegLook:
    """Segments, frames and voxels of a SEG, against its source images as far as they are at hand.

    Where the SEG lacks what every SEG must have, the error is pydicom's.
    """
    described = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    frames = read_frames(dataset)
    problems = [*_segments(dataset, described, at_hand.strict)]
    faults = (*_segment_faults(frames, described), *_source_faults(frames, dataset, at_hand.strict))
    problems += _sentences((*faults, *_place_faults(frames, dataset, at_hand)))
    voxels: dict[int, int] = {}
    if unreadable := _unreadable(dataset, len(frames)):
        problems.append(unreadable)
    else:
        voxels = dict.fromkeys(described, 0)
        if not _count(dataset, frames, voxels, expected):
            problems.append("its voxels are not those of the masks.")
    return SegLook(tuple(problems), voxels, voxel_mm3(dataset, frames[0]) if frames else None)


def _segments(dataset: Dataset, described: list[int], strict: bool) -> Iterator[str]:
    # PS3.3 C.8.20.2
    if described != list(range(1, len(described) + 1)):
        yield "its segments are not numbered from 1 without gaps."
    tracking = [str(segment.TrackingUID) for segment in dataset.SegmentSequence if "TrackingUID" in segment]
    if len(set(tracking)) < len(tracking):
        yield "two of its segments have the same TrackingUID."
    series = dataset.get("ReferencedSeriesSequence") or ()
    # Several source series made OHIF 3.13 attach the overlay to the wrong one.
    if strict and len(series) != 1:
        yield f"it refers to {len(series)} series instead of one."


def _segment_faults(frames: Sequence[SegFrame], described: Iterable[int]) -> Iterator[_Fault]:
    known, seen = set(described), set()
    for frame in frames:
        if frame.segment not in known:
            yield frame.number, "of a segment that is not described", ""
        place = (frame.segment, frame.sources)
        if frame.sources and place in seen:
            yield frame.number, "a second one of its segment on source image {uid}", frame.sources[0][0]
        seen.add(place)


def _source_faults(frames: Sequence[SegFrame], dataset: Dataset, strict: bool) -> Iterator[_Fault]:
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    }
    for frame in frames:
        # Viewers that find none guess: an empty derivation sequence painted tumour on the wrong slice.
        if not frame.sources:
            yield frame.number, "no source image", ""
        elif strict and len(frame.sources) > 1:
            yield frame.number, "more than one source image", ""
        for uid, _ in frame.sources:
            if uid not in listed:
                yield frame.number, "derived from {uid}, which is not among the images of its referenced series", uid


def _place_faults(frames: Sequence[SegFrame], dataset: Dataset, at_hand: AtHand) -> Iterator[_Fault]:
    spreads: dict[str, tuple[float, float]] = {}
    size, space = (int(dataset.Rows), int(dataset.Columns)), str(dataset.get("FrameOfReferenceUID", ""))
    for frame in frames:
        for uid, number in frame.sources:
            source = at_hand.known.get(uid)
            if source is None or source.image is None or source.series is None:
                continue
            if source.series_instance_uid not in spreads:
                spreads[source.series_instance_uid] = _spread(source.series)
            if size != (source.rows, source.columns):
                yield frame.number, "its rows and columns are not those of source image {uid}", uid
            if source.image.frame_of_reference_uid not in ("", space):
                yield frame.number, "its frame of reference is not that of source image {uid}", uid
            yield from _plane_faults(frame, uid, source.frame(number), spreads[source.series_instance_uid])


def _plane_faults(
    frame: SegFrame, uid: str, image: Instance | FrameHeader | None, spread: tuple[float, float]
) -> Iterator[_Fault]:
    if image is None:
        yield frame.number, "derived from a frame that {uid} has not", uid
        return
    if not _near(frame.position_mm, image.position_mm, PLACE_TOLERANCE_MM):
        yield frame.number, "it does not stand where source image {uid} stands", uid
    if not _near(frame.orientation, image.orientation, spread[0] + _DIRECTION_TOLERANCE):
        yield frame.number, "its orientation is not that of source image {uid}", uid
    if not _near(frame.spacing_mm, image.pixel_spacing_mm, spread[1] + _SPACING_TOLERANCE_MM):
        yield frame.number, "its pixel spacing is not that of source image {uid}", uid


def _near(found: tuple[float, ...], wanted: tuple[float, ...] | None, tolerance: float) -> bool:
    """Whether the two agree; True where nothing is known of what is wanted."""
    return wanted is None or (len(found) == len(wanted) and math.dist(found, wanted) <= tolerance)


def _spread(series: Series) -> tuple[float, float]:
    """How far the orientations and the pixel spacings (mm) of a series' images are from its first one's."""
    images = [each for instance in series.instances for each in (instance.frames or (instance,))]
    directions = [each.orientation for each in images if each.orientation]
    spacings = [each.pixel_spacing_mm for each in images if each.pixel_spacing_mm]
    return (
        max((math.dist(each, directions[0]) for each in directions), default=0.0),
        max((math.dist(each, spacings[0]) for each in spacings), default=0.0),
    )


def _sentences(faults: Iterable[_Fault]) -> list[str]:
    """One sentence for each kind of fault, because as a rule a thousand frames share one."""
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
    """Why the voxels cannot be read; "" where they can."""
    if dataset.SegmentationType != "BINARY" or int(dataset.BitsAllocated) != 1:
        return "its voxels are not 0 and 1 in single bits (segmentation type BINARY)."
    if UID(str(dataset.file_meta.TransferSyntaxUID)).is_compressed:
        return "its voxels are compressed, which some readers of SEG refuse."
    number = int(dataset.NumberOfFrames)
    needed = -(-number * int(dataset.Rows) * int(dataset.Columns) // 8)
    needed += needed % 2  # PS3.5 8.1.1: padded to an even length
    if described != number or len(dataset.PixelData) != needed:
        held = len(dataset.PixelData)
        return f"its {number} frames have {described} descriptions, and {held} bytes of pixels instead of {needed}."
    return ""


def _count(
    dataset: Dataset, frames: Sequence[SegFrame], voxels: dict[int, int], expected: ExpectedVoxels | None
) -> bool:
    """Count set voxels into `voxels`; False where they are not the expected ones."""
    as_expected = True
    missing = {} if expected is None else dict.fromkeys(np.ndindex(expected.masks.shape[:2]))
    for frame, image in zip(frames, read_voxels(dataset), strict=True):
        voxels[frame.segment] = voxels.get(frame.segment, 0) + int(np.count_nonzero(image))
        if expected is not None:
            place = (frame.segment - 1, expected.slices.get(frame.sources[0], -1) if frame.sources else -1)
            if place not in missing or not np.array_equal(image, expected.masks[place]):
                as_expected = False
            missing.pop(place, None)
    # A slice without a frame is a slice without a voxel.
    return as_expected and not (expected is not None and any(expected.masks[place].any() for place in missing))
