"""Build the part of a TID 1500 report that both reports share: the document, its observer and its evidence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_seg import codes, equipment
from dicom_seg.copied_elements import in_zone
from dicom_seg.finalise import finalise
from dicom_seg.predecessor import Predecessor
from dicom_seg.source_headers import SourceHeaders
from dicom_seg.uids import device_uid, result_uid
from pipeline.result import SegmentationResult

Group = VolumetricROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


@dataclass(frozen=True, slots=True)
class ReportSeries:
    """The series of a report, which contains nothing else."""

    place: int
    """In the numbers of a result's series, see `series_numbers`."""
    purpose: str
    """Enters the report's UIDs."""
    description: str
    """Cut after 22 characters where the limit of the model's intended use is added."""
    title: Code
    """Document title, from CID 7021."""


class EvidenceInstance(NamedTuple):
    """An object of the study on which a report is based."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report contains and what it is based on."""

    groups: Sequence[Group]
    library: Sequence[SourceHeaders]
    """The image library lists only the first image of each, because viewers read through all of it."""
    evidence: Sequence[EvidenceInstance]
    """Every object that was used; repetitions are dropped."""
    predecessors: Sequence[Predecessor] = ()
    """Earlier reports of the study that this one replaces."""
    comments: Sequence[str] = ()
    """Remarks on the result, each a Comment (121106 DCM) of the report."""


def encode_report(
    content: ReportContent, series: ReportSeries, result: SegmentationResult, source: SourceHeaders, started: datetime
) -> Dataset:
    """Return a Comprehensive 3D SR document (TID 1500) with the patient and study of `source`."""
    report = MeasurementReport(
        observation_context=_observation_context(result),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=content.groups,
        referenced_images=[_library_image(headers) for headers in content.library],
        title=series.title,
    )
    if content.comments:
        report[0].ContentSequence.append(_comments(content.comments))
    dataset = Comprehensive3DSR(
        evidence=_evidence_items(content.evidence, source),
        content=report,
        series_instance_uid=result_uid(result, f"SR series {series.purpose}"),
        series_number=result.series_numbers_from + series.place,
        sop_instance_uid=result_uid(result, f"SR {series.purpose}"),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=equipment.described(series.description, result.model),
        previous_versions=_predecessor_items(content.predecessors, source) or None,
        **equipment.creation_arguments(result.model, in_zone(started, source.copied)),
    )
    _restore_storage_classes(dataset, content.library)
    return finalise(dataset, source)


def algorithm(result: SegmentationResult, further_parameters: Iterable[str] = ()) -> AlgorithmIdentification:
    """Return the model as an algorithm identification (TID 4019).

    Its parameters are texts for a reader: the limit of intended use, what identifies the model, notes from reading the
    series, and `further_parameters`.
    """
    identification = equipment.algorithm(result.model)[0]
    warning = equipment.use_warning(result.model)
    parameters = [f"{key}={value}" for key, value in equipment.algorithm_parameters(result.model).items()]
    notes = [f"{source.role}: {note}" for source in result.sources for note in source.notes]
    return AlgorithmIdentification(
        name=identification.AlgorithmName,
        version=identification.AlgorithmVersion,
        parameters=[*([warning] if warning else ()), *parameters, *notes, *further_parameters],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=equipment.MANUFACTURER,
    )


def comment(text: str) -> TextContentItem:
    """Return a sentence for the reader, for a group or the document."""
    return TextContentItem(codes.COMMENT, text, RelationshipTypeValues.CONTAINS)


def _comments(texts: Iterable[str]) -> ContainerContentItem:
    container = ContainerContentItem(codes.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence([comment(text) for text in texts])
    return container


def six_digits(value: float) -> float:
    """Round to six significant digits.

    That is more than was measured, and gives equal values in the decimal string and the floating point value.
    """
    return float(f"{value:.6g}")


def _evidence_items(instances: Iterable[EvidenceInstance], source: SourceHeaders) -> list[Dataset]:
    items: list[Dataset] = []
    for series_uid, sop_class_uid, sop_instance_uid in dict.fromkeys(instances):
        # highdicom copies patient and study attributes from the first item; `finalise` sets the real ones.
        item = Dataset() if items else source.stand_in(0)
        item.StudyInstanceUID, item.SeriesInstanceUID = source.study_instance_uid, series_uid
        item.SOPClassUID, item.SOPInstanceUID = sop_class_uid, sop_instance_uid
        items.append(item)
    return items


def _observation_context(result: SegmentationResult) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=device_uid(result.model),
        name=equipment.DEVICE_NAME,
        manufacturer_name=equipment.MANUFACTURER,
        model_name=equipment.software_versions(result.model)[1],
        serial_number=equipment.serial_number(result.model),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _predecessor_items(predecessors: Iterable[Predecessor], source: SourceHeaders) -> list[Dataset]:
    """Return items of PredecessorDocumentsSequence (PS3.3 C.17.2)."""
    items = []
    for each in predecessors:
        item = Dataset()
        item.StudyInstanceUID, item.SeriesInstanceUID = source.study_instance_uid, each.series_instance_uid
        item.SOPClassUID, item.SOPInstanceUID = each.sop_class_uid, each.sop_instance_uid
        items.append(item)
    return items


def _library_image(headers: SourceHeaders) -> Dataset:
    image = headers.stand_in(0)
    image.SeriesInstanceUID, _, image.SOPInstanceUID = headers.instances[0]
    return image


def _restore_storage_classes(dataset: Dataset, library: Sequence[SourceHeaders]) -> None:
    """Set the real SOP classes in the image library.

    highdicom describes only images of SOP classes it knows, so it was given all of them as MR Image Storage.
    """
    classes = {uid: sop_class_uid for headers in library for _, sop_class_uid, uid in headers.instances}
    for container in dataset.ContentSequence:
        if container.ConceptNameCodeSequence[0].CodeValue == "111028":  # Image Library
            for item in (item for group in container.ContentSequence for item in group.ContentSequence):
                if "ReferencedSOPSequence" in item:
                    reference = item.ReferencedSOPSequence[0]
                    reference.ReferencedSOPClassUID = classes[reference.ReferencedSOPInstanceUID]
