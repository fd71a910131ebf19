"""Encode a result as DICOM SEG (PS3.3 A.51) on the slices of a source series."""

from datetime import datetime

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset

from dicom_seg import codes, equipment, series_numbers
from dicom_seg.copied_elements import in_zone
from dicom_seg.finalise import finalise
from dicom_seg.source_headers import SourceHeaders, SourcePlane, stand_in_uid
from dicom_seg.uids import result_uid, tracking_uid
from models.labels import Label
from pipeline.result import MasksOnSeries, SegmentationResult

_DEFINITIONS = {
    "enhancing_tumour": "Enhancing part of the tumour, defined on T1 after contrast",
    "adc_abnormality": "Oedema with high ADC and tumour with intermediate ADC, defined on the ADC map",
    "flair_hyperintensity": "All that is bright on FLAIR, defined on FLAIR",
    "tumour_core": "Enhancing tumour and what is necrotic or solid without enhancement, defined on T1 after contrast",
    "whole_tumour": "Tumour and the oedema around it, defined on FLAIR",
    "necrotic_core": "Part of the tumour that is necrotic, defined on T1 after contrast",
    "resection_cavity": "Space that a resection left, defined on T1 after contrast",
}


def encode_seg(result: SegmentationResult, on: MasksOnSeries, source: SourceHeaders, started: datetime) -> Dataset:
    """Return the labels of a result as overlapping BINARY segments on the slices of one of its series.

    `source` is the headers of the series of `on`, in slice order; `started` is when the analysis began, written in
    the time zone of the study. Frames without a set voxel are left out. Masks without any set voxel keep one empty
    frame per segment, on the middle slice, because an image has at least one frame.
    """
    filled = np.flatnonzero(on.masks.any(axis=(0, 2, 3)))
    kept = filled if filled.size else np.array([len(source.planes) // 2])
    dataset = Segmentation(
        source_images=[source.stand_in(index) for index in kept],
        # highdicom expects (slice, row, column, segment). It processes segment by segment, which is many times faster
        # on this view than on an array in which the segments' voxels are interleaved.
        pixel_array=np.moveaxis(on.masks[:, kept], 0, -1),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, label, result) for number, label in enumerate(on.labels, 1)],
        series_instance_uid=result_uid(result, f"SEG series {on.role}"),
        series_number=result.series_numbers_from + series_numbers.SEG[on.role],
        sop_instance_uid=result_uid(result, f"SEG {on.role}"),
        instance_number=1,
        content_label=f"GLIOMA_{on.role}",
        content_description=equipment.described("Glioma", result.model),
        series_description=equipment.described(f"Glioma SEG on {on.role}", result.model),
        omit_empty_frames=bool(filled.size),
        **equipment.creation_arguments(result.model, in_zone(started, source.copied)),
    )
    _repack_frames(dataset)
    _identify_segment_per_frame(dataset)
    _set_references(dataset, source)
    _set_dimension_organization(dataset, result_uid(result, f"SEG dimensions {on.role}"))
    return finalise(dataset, source)


def _segment(number: int, label: Label, result: SegmentationResult) -> SegmentDescription:
    description = SegmentDescription(
        # PS3.3 C.8.20.2: numbers start at 1 in every SEG; the tracking UID says which label it is.
        segment_number=number,
        segment_label=label.title,
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        segmented_property_type=codes.property_type(label),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=equipment.algorithm(result.model),
        tracking_uid=tracking_uid(result, label),
        tracking_id=label.title,
        anatomic_regions=[codes.BRAIN],
        display_color=CIELabColor.from_rgb(*label.colour_rgb),
    )
    description.SegmentDescription = _DEFINITIONS[label.name]
    return description


def _repack_frames(dataset: Dataset) -> None:
    """Pack frames without gaps and pad pixel data to even length with a zero byte (PS3.5 8.1.1).

    highdicom 0.28.2 starts a new byte for each frame of fewer than 8 pixels, and pads with the character "0" (0x30).
    """
    number, size = int(dataset.NumberOfFrames), int(dataset.Rows) * int(dataset.Columns)
    packed = dataset.PixelData[: -(-number * size // 8)]
    if size < 8:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData[:number], np.uint8)[:, None], axis=1, bitorder="little")
        packed = np.packbits(bits[:, :size], bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)


def _identify_segment_per_frame(dataset: Dataset) -> None:
    """Move the segment number of a single segment from the shared to the per-frame functional groups.

    highdicom puts it into the shared ones, but readers expect it where it is for several segments.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        for groups in dataset.PerFrameFunctionalGroupsSequence:
            groups.SegmentIdentificationSequence = shared.SegmentIdentificationSequence
        del shared.SegmentIdentificationSequence


def _set_references(dataset: Dataset, source: SourceHeaders) -> None:
    """Replace references to stand-ins by those to the real images, per frame and for the whole SEG."""
    planes = {stand_in_uid(index): plane for index, plane in enumerate(source.planes)}
    done: set[int] = set()
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        for image in groups.DerivationImageSequence[0].SourceImageSequence:
            # Frames of the same slice in several segments share this item.
            if id(image) not in done:
                _refer_to_plane(image, planes[image.ReferencedSOPInstanceUID])
                done.add(id(image))
    dataset.SourceImageSequence = [_reference(*instance) for _, *instance in source.instances]
    dataset.ReferencedSeriesSequence = [_series(uid, source) for uid in dict.fromkeys(s for s, *_ in source.instances)]


def _series(uid: str, source: SourceHeaders) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedInstanceSequence = [_reference(*instance) for of, *instance in source.instances if of == uid]
    return series


def _refer_to_plane(image: Dataset, plane: SourcePlane) -> None:
    image.ReferencedSOPClassUID = plane.frame.sop_class_uid
    image.ReferencedSOPInstanceUID = plane.frame.sop_instance_uid
    if plane.multi_frame:
        image.ReferencedFrameNumber = plane.frame.number


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _set_dimension_organization(dataset: Dataset, organization: str) -> None:
    """Replace highdicom's random UID of the dimension organization by one derived from the inputs."""
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
