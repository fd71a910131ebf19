"""Read the frames and voxels of a SEG of any origin from its functional groups (PS3.3 C.7.6.16, A.51)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_seg.check_references import whole_numbers

_PLANE = (
    ("PlanePositionSequence", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing"),
)


@dataclass(frozen=True, slots=True)
class SegFrame:
    """One frame of a SEG; () or 0 where an attribute is absent."""

    number: int
    """From 1."""
    segment: int
    sources: tuple[tuple[str, int], ...]
    """(SOP instance UID, frame number) of each image that it is derived from."""
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]


def read_frames(dataset: Dataset) -> tuple[SegFrame, ...]:
    """Return every described frame, by its per-frame functional groups or, where they are silent, the shared ones."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    common = [_floats(shared, *each) for each in _PLANE]
    frames = []
    for number, own in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
        plane = [_floats(own, *each) or common[index] for index, each in enumerate(_PLANE)]
        segment = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        derivations = own.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or ()
        frames.append(
            SegFrame(
                number=number,
                segment=int(segment[0].ReferencedSegmentNumber) if segment else 0,
                sources=tuple(
                    _source(image) for each in derivations for image in each.get("SourceImageSequence") or ()
                ),
                position_mm=plane[0],
                orientation=plane[1],
                spacing_mm=plane[2],
            )
        )
    return tuple(frames)


def read_voxels(dataset: Dataset) -> Iterator[NDArray[np.bool_]]:
    """Yield the (rows, columns) mask of each frame of a BINARY SEG with uncompressed pixels.

    Frames are unpacked one by one, because all at once would take eight times the file's size in memory.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    stored = np.frombuffer(dataset.PixelData, np.uint8)
    for number in range(int(dataset.NumberOfFrames)):
        # PS3.5 8.1.1: frames follow each other without gaps, so that one may begin in the middle of a byte.
        first, last = number * rows * columns, (number + 1) * rows * columns
        bits = np.unpackbits(stored[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + rows * columns].view(bool).reshape(rows, columns)


def voxel_mm3(dataset: Dataset, frame: SegFrame) -> float | None:
    """Return the volume of one voxel of a frame; None where the SEG does not give its slice spacing."""
    own = dataset.PerFrameFunctionalGroupsSequence[frame.number - 1]
    for groups in (own, dataset.SharedFunctionalGroupsSequence[0]):
        for measures in groups.get("PixelMeasuresSequence") or ():
            if measures.get("SpacingBetweenSlices") and len(frame.orientation) == 6 and len(frame.spacing_mm) == 2:
                # Scanners round direction cosines, so the vectors need not have length 1.
                area = np.linalg.norm(np.cross(frame.orientation[:3], frame.orientation[3:])) * np.prod(
                    frame.spacing_mm
                )
                return float(area) * abs(float(measures.SpacingBetweenSlices))
    return None


def _source(image: Dataset) -> tuple[str, int]:
    # A reference without a frame number means all frames; a single-frame image has only the first.
    return str(image.ReferencedSOPInstanceUID), (whole_numbers(image, "ReferencedFrameNumber") or (1,))[0]


def _floats(groups: Dataset, group: str, keyword: str) -> tuple[float, ...]:
    items = groups.get(group)
    return tuple(float(value) for value in items[0].get(keyword) or ()) if items else ()
