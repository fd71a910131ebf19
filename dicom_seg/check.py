"""Our own last look before anything is sent. Reads objects as a stranger would; shares no code with the encoders."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from dicom_seg.encode import EncodedObject
from models.labels import Role
from pipeline.result import MasksOnSeries, SegmentationResult, SourceSeries

TOLERANCE_MM = 1e-3
"""How far a frame may stand from the slice that it was made for."""
_OWN_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationUID", "TrackingUID", "DeviceUID", "UID")
_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")


def check(objects: Sequence[EncodedObject], result: SegmentationResult) -> tuple[str, ...]:
    """What is wrong with the objects made of a result, as sentences; empty where nothing is.

    Every object: valid UIDs, unique, Explicit VR Little Endian, the patient and study of the source. SEG: the grid and
    slices of its source series, one derivation image per frame that stands where the frame stands, voxels equal to the
    masks. SR: everything that it refers to is among its evidence, and its segments are those of the SEG.
    """
    source = result.source(Role.T1CE)
    problems = []
    uids = [str(encoded.dataset.get("SOPInstanceUID", "")) for encoded in objects]
    if len(set(uids)) < len(uids):
        problems.append("Two objects have the same SOP instance UID.")
    segs = {uid: o.dataset for uid, o in zip(uids, objects, strict=True) if o.sop_class_uid == SegmentationStorage}
    for encoded in objects:
        found = [*_check_any(encoded.dataset, source)]
        if encoded.sop_class_uid == SegmentationStorage:
            on = _grid_of(encoded.dataset, result)
            found += _check_grid(encoded.dataset, result.source(on.role))
            found += _check_frames(encoded.dataset, result.source(on.role), on.masks)
        elif "ContentSequence" in encoded.dataset:
            found += _check_references(encoded.dataset, segs)
        problems += [f"{encoded.file_name}: {problem}" for problem in dict.fromkeys(found)]
    return tuple(problems)


def _grid_of(dataset: Dataset, result: SegmentationResult) -> MasksOnSeries:
    """The masks whose series a SEG refers to; those on T1CE where it refers to none of ours."""
    referenced = {item.SeriesInstanceUID for item in dataset.get("ReferencedSeriesSequence", ())}
    for on in result.native:
        if result.source(on.role).series.series_instance_uid in referenced:
            return on
    return result.on_t1ce()


def _check_any(dataset: Dataset, source: SourceSeries) -> Iterator[str]:
    for element in dataset.iterall():
        # UIDs copied from a source are the scanner's affair; refusing them would refuse its patients.
        if element.keyword in _OWN_UIDS and not UID(str(element.value), config.IGNORE).is_valid:
            yield f"{element.keyword} {element.tag} holds no valid UID."
    meta = getattr(dataset, "file_meta", Dataset())
    if meta.get("TransferSyntaxUID") != ExplicitVRLittleEndian:
        yield "its transfer syntax is not Explicit VR Little Endian."
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "its file header names another SOP instance."
    path = {instance.sop_instance_uid: instance.path for instance in source.series.instances}.get(
        source.frames[0].sop_instance_uid
    )
    # Without validation, because pydicom's complaints quote the values.
    with disable_value_validation():
        try:
            header = dcmread(path, specific_tags=[*_IDENTITY], force=True) if path else Dataset()
        except (OSError, InvalidDicomError):
            header = Dataset()
        differing = [name for name in _IDENTITY if str(dataset.get(name) or "") != str(header.get(name) or "")]
    for name in differing:
        yield f"its {name} is not that of the source series {source.series.series_instance_uid}."


def _check_grid(dataset: Dataset, source: SourceSeries) -> Iterator[str]:
    series = source.series.series_instance_uid
    geometry = source.geometry
    if (dataset.Rows, dataset.Columns) != geometry.shape[1:]:
        yield f"its rows and columns are not those of series {series}."
    if geometry.frame_of_reference_uid and dataset.FrameOfReferenceUID != geometry.frame_of_reference_uid:
        yield f"its frame of reference is not that of series {series}."
    shared = dataset.SharedFunctionalGroupsSequence[0]
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    steps = np.array([orientation[3:] * spacing[0], orientation[:3] * spacing[1]])
    if np.abs(steps - (geometry.row_step_mm, geometry.column_step_mm)).max() > TOLERANCE_MM:
        yield f"its orientation or pixel spacing is not that of series {series}."
    referenced = [item.SeriesInstanceUID for item in dataset.get("ReferencedSeriesSequence", ())]
    if referenced != [series]:
        yield f"it refers to {len(referenced)} series instead of {series} alone."
    numbers = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "its segments are not numbered from 1 without gaps."


def _check_frames(dataset: Dataset, source: SourceSeries, masks: NDArray[np.bool_]) -> Iterator[str]:
    frames = dataset.PerFrameFunctionalGroupsSequence
    number, size = int(dataset.NumberOfFrames), int(dataset.Rows) * int(dataset.Columns)
    stored = -(-number * size // 8)
    if len(frames) != number or len(dataset.PixelData) != stored + stored % 2:
        yield f"its {number} frames have {len(frames)} descriptions and {len(dataset.PixelData)} bytes of pixels."
        return
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little", count=number * size)
    pixels = bits.reshape(number, int(dataset.Rows), int(dataset.Columns)).astype(bool)
    slices = {(frame.sop_instance_uid, frame.number): index for index, frame in enumerate(source.frames)}
    listed = {
        item.ReferencedSOPInstanceUID
        for series in dataset.get("ReferencedSeriesSequence", ())
        for item in series.ReferencedInstanceSequence
    }
    positions = _slice_positions(source)
    seen = np.zeros(masks.shape, bool)
    for groups, image in zip(frames, pixels, strict=True):
        segment = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        derivations = [item for group in groups.DerivationImageSequence for item in group.SourceImageSequence]
        if len(derivations) != 1 or not 1 <= segment <= len(masks):
            yield "a frame has not exactly one source image and one of our segments."
            continue
        uid = derivations[0].ReferencedSOPInstanceUID
        index = slices.get((uid, int(derivations[0].get("ReferencedFrameNumber", 1))))
        if index is None or uid not in listed:
            yield f"a frame is derived from {uid}, which is no image of its source series."
            continue
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        if np.linalg.norm(position - positions[index]) > TOLERANCE_MM:
            yield f"the frame derived from {uid} does not stand where that image stands."
        seen[segment - 1, index] |= image
    if seen.shape != masks.shape or not np.array_equal(seen, masks):
        yield "its voxels are not those of the masks."


def _slice_positions(source: SourceSeries) -> list[NDArray[np.float64]]:
    """Where each slice's image says it stands: as scanned from classic images, read from the file of enhanced ones."""
    instances = {instance.sop_instance_uid: instance for instance in source.series.instances}
    per_frame: dict[str, Dataset] = {}
    positions = []
    for frame in source.frames:
        instance = instances[frame.sop_instance_uid]
        position: Sequence[float] | None = instance.position_mm
        if instance.number_of_frames > 1 or position is None:
            if frame.sop_instance_uid not in per_frame:
                per_frame[frame.sop_instance_uid] = dcmread(
                    instance.path,
                    specific_tags=["PerFrameFunctionalGroupsSequence", "ImagePositionPatient"],
                    force=True,
                )
            header = per_frame[frame.sop_instance_uid]
            groups = header.get("PerFrameFunctionalGroupsSequence")
            place = groups[frame.number - 1].PlanePositionSequence[0] if groups else header
            position = place.ImagePositionPatient
        positions.append(np.array(position, float))
    return positions


def _check_references(dataset: Dataset, segs: dict[str, Dataset]) -> Iterator[str]:
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    for reference in _references(dataset):
        uid = reference.ReferencedSOPInstanceUID
        if uid not in evidence:
            yield f"it refers to {uid}, which is not among its evidence."
        if reference.ReferencedSOPClassUID == SegmentationStorage:
            seg = segs.get(uid)
            numbers = {int(segment.SegmentNumber) for segment in seg.SegmentSequence} if seg else set()
            if reference.get("ReferencedSegmentNumber") not in numbers:
                yield f"it refers to a segment that SEG {uid} has not."


def _references(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ReferencedSOPSequence", ())
    for child in item.get("ContentSequence", ()):
        yield from _references(child)
