"""A result to a structured report: Comprehensive 3D SR, TID 1500, one TID 1411 group per label. Measures nothing.

The groups refer to segments and carry no coordinates; OHIF 3.13 blanks its report view where a volumetric group without
coordinates shares an object with one that has them, so diameters belong into a report of their own.
"""

from collections.abc import Sequence
from datetime import datetime

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from dicom_seg import codes, equipment
from dicom_seg.finish import finish
from dicom_seg.source import SourceHeaders
from dicom_seg.uids import device_uid, result_uid, tracking_uid
from models.labels import FLAIR_HYPERINTENSITY
from pipeline.result import AdcStatistics, LabelMeasurement, SegmentationResult

SERIES_NUMBER = 8002


def encode_sr(
    result: SegmentationResult, source: SourceHeaders, library: Sequence[SourceHeaders], seg: Dataset, started: datetime
) -> Dataset:
    """The measurements of all labels as SR-A.

    `source` is the headers of the T1CE series that `seg` stands on; of each of `library` the first image enters the
    image library, which is kept that small because viewers walk through all of it. A label without a voxel keeps its
    group, with volume 0 and no lesion: "looked for, not found" is a result.
    """
    report = MeasurementReport(
        observation_context=_observation_context(result),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=[_group(measurement, result, source, seg) for measurement in result.measurements],
        referenced_images=[_library_image(headers) for headers in library],
    )
    dataset = Comprehensive3DSR(
        evidence=_evidence(result, source, seg),
        content=report,
        series_instance_uid=result_uid(result, "SR series measurements"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=result_uid(result, "SR measurements"),
        instance_number=1,
        manufacturer=equipment.MANUFACTURER,
        manufacturer_model_name=equipment.DEVICE_NAME,
        software_versions=equipment.software_versions(result.model),
        device_serial_number=equipment.serial_number(result.model),
        is_complete=True,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=equipment.described("Glioma measurements", result.model),
        contributing_equipment=[equipment.contributing_equipment(result.model)],
        content_date=started.date(),
        content_time=started.time(),
        series_date=started.date(),
        series_time=started.time(),
    )
    _restore_storage_classes(dataset, library)
    return finish(dataset, source.first)


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


def _group(
    measurement: LabelMeasurement, result: SegmentationResult, source: SourceHeaders, seg: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    label = measurement.label
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking_uid(result, label), identifier=label.title),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=label.number,
            source_series=SourceSeriesForSegmentation(source.series_instance_uid),
        ),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        finding_type=codes.property_type(label),
        finding_sites=[FindingSite(anatomic_location=codes.BRAIN)],
        algorithm_id=_algorithm(result),
        measurements=_measurements(measurement),
        qualitative_evaluations=_evaluations(measurement),
    )


def _algorithm(result: SegmentationResult) -> AlgorithmIdentification:
    identification = equipment.algorithm(result.model)[0]
    parameters = [f"{key}={value}" for key, value in equipment.algorithm_parameters(result.model).items()]
    parameters += [f"{source.role}: {note}" for source in result.sources for note in source.notes]
    warning = equipment.use_warning(result.model)
    return AlgorithmIdentification(
        name=identification.AlgorithmName,
        version=identification.AlgorithmVersion,
        parameters=[warning, *parameters] if warning else parameters,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=equipment.MANUFACTURER,
    )


def _measurements(measurement: LabelMeasurement) -> list[Measurement]:
    volume = Measurement(
        # cm3, not ml: millilitres are not in PS3.16 CID 7462
        name=codes.VOLUME,
        value=_short(measurement.volume_ml),
        unit=codes.CUBIC_CENTIMETRE,
        method=codes.SUM_OF_SEGMENTED_VOXELS,
    )
    lesions = Measurement(name=codes.NUMBER_OF_LESIONS, value=measurement.lesion_count, unit=codes.NO_UNITS)
    return [volume, lesions, *(_adc(measurement.adc) if measurement.adc else ())]


def _adc(statistics: AdcStatistics) -> list[Measurement]:
    values: tuple[tuple[Code, float], ...] = (
        (codes.MEAN, statistics.mean),
        (codes.MEDIAN, statistics.median),
        (codes.MINIMUM, statistics.minimum),
        (codes.MAXIMUM, statistics.maximum),
        (codes.STANDARD_DEVIATION, statistics.standard_deviation),
        (codes.PERCENTILE_10, statistics.percentile_10),
        (codes.PERCENTILE_90, statistics.percentile_90),
    )
    return [
        Measurement(
            name=codes.APPARENT_DIFFUSION_COEFFICIENT, value=_short(value), unit=codes.ADC_UNIT, derivation=derivation
        )
        for derivation, value in values
    ]


def _evaluations(measurement: LabelMeasurement) -> list[QualitativeEvaluation]:
    if measurement.lesion_count == 0:
        return []
    focality = codes.FOCAL if measurement.lesion_count == 1 else codes.MULTIFOCAL
    evaluations = [QualitativeEvaluation(name=codes.ABNORMALITY, value=focality)]
    if measurement.label is FLAIR_HYPERINTENSITY:
        evaluations.append(QualitativeEvaluation(name=codes.SIGNAL_CHARACTERISTIC, value=codes.T2_HYPERINTENSITY))
    return evaluations


def _short(value: float) -> float:
    """Six digits: more than was measured, and the same in the decimal string as in the floating point value."""
    return float(f"{value:.6g}")


def _library_image(headers: SourceHeaders) -> Dataset:
    image = headers.stand_in(0)
    image.SOPInstanceUID = headers.planes[0].frame.sop_instance_uid
    return image


def _restore_storage_classes(dataset: Dataset, library: Sequence[SourceHeaders]) -> None:
    """highdicom describes only images whose storage class it knows, so all were shown to it as plain MR."""
    classes = {uid: sop_class_uid for headers in library for sop_class_uid, uid in headers.instances}
    for container in dataset.ContentSequence:
        if container.ConceptNameCodeSequence[0].CodeValue == "111028":  # Image Library
            for item in (item for group in container.ContentSequence for item in group.ContentSequence):
                if "ReferencedSOPSequence" in item:
                    reference = item.ReferencedSOPSequence[0]
                    reference.ReferencedSOPClassUID = classes[reference.ReferencedSOPInstanceUID]


def _evidence(result: SegmentationResult, source: SourceHeaders, seg: Dataset) -> list[Dataset]:
    """The SEG and every image that took part. The first has what highdicom wants of patient and study, emptied."""
    segmentation = source.stand_in(0)
    segmentation.SOPClassUID, segmentation.SOPInstanceUID = seg.SOPClassUID, seg.SOPInstanceUID
    segmentation.SeriesInstanceUID = seg.SeriesInstanceUID
    images = [
        _evidence_item(source.study_instance_uid, taken.series.series_instance_uid, sop_class_uid, uid)
        for taken in result.sources
        for sop_class_uid, uid in dict.fromkeys((f.sop_class_uid, f.sop_instance_uid) for f in taken.frames)
    ]
    return [segmentation, *images]


def _evidence_item(study: str, series: str, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = study, series
    item.SOPClassUID, item.SOPInstanceUID = sop_class_uid, sop_instance_uid
    return item
