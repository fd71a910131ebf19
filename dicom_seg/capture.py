"""Encode the pictures of a result as RGB secondary captures (PS3.3 A.8.1), for a PACS that does not show SEG.

The images are not meant for measuring: they have no pixel spacing and no position in the patient, so that nobody takes
a resampled picture for a source image.
"""

from collections.abc import Iterator
from datetime import datetime

from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_seg import equipment, series_numbers
from dicom_seg.copied_elements import in_zone
from dicom_seg.finalise import finalise_series
from dicom_seg.patient_orientation import orientation_letters
from dicom_seg.picture import Picture, draw_pictures
from dicom_seg.source_headers import SourceHeaders, SourcePlane
from dicom_seg.uids import result_uid
from pipeline.result import SegmentationResult


def encode_capture(result: SegmentationResult, source: SourceHeaders, started: datetime) -> tuple[Dataset, ...]:
    """Return one single-frame image for each slice of the result's panels, in their order; none without panels.

    `source` is the headers of the reference series; each image names the slice that it shows. `started` is when the
    analysis began, written in the time zone of the study.
    """
    return finalise_series([*_encode_all(result, source, in_zone(started, source.copied))], source)


def _encode_all(result: SegmentationResult, source: SourceHeaders, started: datetime) -> Iterator[SCImage]:
    if result.panels is None:
        return
    series_uid = result_uid(result, "capture series")
    pictures = draw_pictures(result, result.panels)
    for number, (index, picture) in enumerate(zip(result.panels.slice_indices, pictures, strict=True), 1):
        dataset = _image(result, source.stand_in(index), picture, series_uid, number, started)
        dataset.SourceImageSequence = [_source_image(source.planes[index])]
        _describe(dataset, result, source.first, started)
        yield dataset


def _image(
    result: SegmentationResult, stand_in: Dataset, picture: Picture, series_uid: str, number: int, started: datetime
) -> SCImage:
    geometry = result.source(result.reference).geometry
    right, down = orientation_letters(geometry.column_step_mm), orientation_letters(geometry.row_step_mm)
    dataset = SCImage.from_ref_dataset(
        stand_in,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom accepts single letters only; those of an oblique direction are set below.
        patient_orientation=(right[0], down[0]),
        series_instance_uid=series_uid,
        series_number=result.series_numbers_from + series_numbers.CAPTURES,
        sop_instance_uid=result_uid(result, f"capture {number}"),
        instance_number=number,
        series_description=equipment.described("Glioma capture", result.model),
        **equipment.creation_arguments(result.model, started),
    )
    dataset.PatientOrientation = [right, down]
    return dataset


def _describe(dataset: Dataset, result: SegmentationResult, header: Dataset, started: datetime) -> None:
    """Set attributes that highdicom leaves out or sets differently.

    The modality stays OT, as highdicom sets it, although PS3.3 C.8.6.1 allows the MR of the source equipment: routing
    rules and hanging protocols that ask for MR would pick the pictures up, and `pipeline.choose` would count them as MR
    without contrast agent.
    """
    dataset.ConversionType = "WSD"
    # The brain is not a paired body part, so no laterality is needed.
    dataset.BodyPartExamined = "BRAIN"
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = f"{started:%Y%m%d}", f"{started:%H%M%S.%f}"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    warning = equipment.use_warning(result.model)
    dataset.DerivationDescription = f"{_shown(result)} with contours and volumes" + (f". {warning}" if warning else "")
    # PS3.3 C.7.6.1.1.4 is about text that identifies the patient or the date; ours describes only the result.
    dataset.BurnedInAnnotation = "NO"
    # Lossy compression of a source must stay declared (PS3.3 C.7.6.1.1.5).
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:
            setattr(dataset, keyword, header.get(keyword))


def _shown(result: SegmentationResult) -> str:
    """Return the series that the pictures show, in words."""
    assert result.panels is not None
    *first, last = result.panels.roles
    return f"{', '.join(first)} and {last}" if first else str(last)


def _source_image(plane: SourcePlane) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = plane.frame.sop_class_uid
    item.ReferencedSOPInstanceUID = plane.frame.sop_instance_uid
    if plane.multi_frame:
        item.ReferencedFrameNumber = plane.frame.number
    item.SpatialLocationsPreserved = "NO"
    item.PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(dictionary.DCM.SourceImageForImageProcessingOperation)
    ]
    return item
