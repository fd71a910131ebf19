"""Encode measurements as a structured report: Comprehensive 3D SR, TID 1500, one TID 1411 group per label.

The groups refer to segments and have no coordinates. OHIF 3.13 draws the coordinates of a report titled "Imaging
Measurement Report" and fails on groups without any, but shows reports with another title as text. So this report is
titled "Oncology Measurement Report", and the diameters have a report of their own (`sr_diameters`).
"""

from collections.abc import Sequence
from datetime import datetime

from highdicom.sr import (
    FindingSite,
    Measurement,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_seg import codes, series_numbers
from dicom_seg.predecessor import Predecessor
from dicom_seg.source_headers import SourceHeaders
from dicom_seg.sr_document import (
    EvidenceInstance,
    ReportContent,
    ReportSeries,
    algorithm,
    comment,
    encode_report,
    six_digits,
)
from dicom_seg.uids import intermediate_adc_tracking_uid, tracking_uid
from models.labels import FLAIR_HYPERINTENSITY, Label
from pipeline.absence import inferred_sentence
from pipeline.result import AdcStatistics, IntermediateAdc, LabelMeasurement, SegmentationResult

_NOT_FOUND_WHERE_SEEN = (
    "Not found in the part of the head that was seen. The rest was not assessed, and this is no 0 ml."
)
_NOT_ALL_SEEN = "A part of the head was not seen on every series. The numbers may lack what lies there."
_EXPERIMENT = "An experiment that is not validated: the part of the segment with an ADC below the threshold."
SERIES = ReportSeries(
    series_numbers.MEASUREMENTS, "measurements", "Glioma measurements", codes.ONCOLOGY_MEASUREMENT_REPORT
)


def encode_sr(
    result: SegmentationResult,
    source: SourceHeaders,
    library: Sequence[SourceHeaders],
    seg: Dataset,
    started: datetime,
    predecessors: Sequence[Predecessor] = (),
) -> Dataset:
    """Return the measurements of all labels as a report (SR-A).

    `source` is the headers of the reference series, on which `seg` is defined. The image library lists the first image
    of each of `library`. A label without a voxel keeps its group, with volume 0 and no lesion, because "not found" is a
    result; where a part of the head was not seen it is none, so the group says "indeterminate" instead of numbers. A
    label that is not reported has no group: the remarks say why.
    """
    images = [
        EvidenceInstance(
            frame.series_instance_uid or each.series.series_instance_uid, frame.sop_class_uid, frame.sop_instance_uid
        )
        for each in result.sources
        for frame in each.frames
    ]
    content = ReportContent(
        groups=[
            *(_group(measurement, result, source, seg) for measurement in result.measurements),
            *(_experiment(each, result, source, seg) for each in result.measurements if each.intermediate_adc),
        ],
        library=library,
        evidence=[EvidenceInstance(seg.SeriesInstanceUID, seg.SOPClassUID, seg.SOPInstanceUID), *images],
        predecessors=predecessors,
        comments=[remark.text for remark in result.remarks],
    )
    return encode_report(content, SERIES, result, source, started)


def _group(
    measurement: LabelMeasurement, result: SegmentationResult, source: SourceHeaders, seg: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    label = measurement.label
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracking_uid(result, label), identifier=label.title),
        referenced_segment=_segment(label, result, source, seg),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        finding_type=codes.property_type(label),
        finding_sites=[FindingSite(anatomic_location=codes.BRAIN)],
        algorithm_id=algorithm(result),
        measurements=_measurements(measurement),
        qualitative_evaluations=_evaluations(measurement),
    )
    if measurement.seen_share < 1:
        group[0].ContentSequence.append(comment(_NOT_ALL_SEEN if measurement.assessed else _NOT_FOUND_WHERE_SEEN))
    for inferred in (each for each in result.inferred if each.label == label):
        group[0].ContentSequence.append(comment(inferred_sentence(inferred)))
    return group


def _experiment(
    measurement: LabelMeasurement, result: SegmentationResult, source: SourceHeaders, seg: Dataset
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the group of intermediate ADC inside a label: of its own, so that nobody takes it for the label's volume.

    It refers to the label's segment, of which it measures a part. A report with groups of several templates is none of
    TID 1500 for PixelMed's validator.
    """
    label = measurement.label
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=intermediate_adc_tracking_uid(result, label),
            identifier=f"Intermediate ADC in {label.title} (experiment)",
        ),
        referenced_segment=_segment(label, result, source, seg),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        finding_type=codes.property_type(label),
        finding_sites=[FindingSite(anatomic_location=codes.BRAIN)],
        algorithm_id=algorithm(result),
        measurements=_intermediate_adc(measurement.intermediate_adc) if measurement.intermediate_adc else (),
    )
    group[0].ContentSequence.append(comment(_EXPERIMENT))
    return group


def _segment(label: Label, result: SegmentationResult, source: SourceHeaders, seg: Dataset) -> ReferencedSegment:
    return ReferencedSegment(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        segment_number=1 + result.labels.index(label),
        source_series=SourceSeriesForSegmentation(source.series_instance_uid),
    )


def _measurements(measurement: LabelMeasurement) -> list[Measurement]:
    if not measurement.assessed:
        return []
    lesions = Measurement(name=codes.NUMBER_OF_LESIONS, value=measurement.lesion_count, unit=codes.NO_UNITS)
    return [_volume(measurement.volume_ml), lesions, *(_adc(measurement.adc) if measurement.adc else ())]


def _volume(volume_ml: float) -> Measurement:
    return Measurement(
        # cm3, not ml: millilitres are not in PS3.16 CID 7462
        name=codes.VOLUME,
        value=six_digits(volume_ml),
        unit=codes.CUBIC_CENTIMETRE,
        method=codes.SUM_OF_SEGMENTED_VOXELS,
    )


def _intermediate_adc(found: IntermediateAdc) -> list[Measurement]:
    return [
        _volume(found.volume_ml),
        Measurement(name=codes.THRESHOLD_VALUE, value=six_digits(found.below), unit=codes.ADC_UNIT),
    ]


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
            name=codes.APPARENT_DIFFUSION_COEFFICIENT,
            value=six_digits(value),
            unit=codes.ADC_UNIT,
            derivation=derivation,
        )
        for derivation, value in values
    ]


def _evaluations(measurement: LabelMeasurement) -> list[QualitativeEvaluation]:
    if not measurement.assessed:
        return [QualitativeEvaluation(name=codes.ABNORMALITY, value=codes.INDETERMINATE)]
    if measurement.lesion_count == 0:
        return []
    focality = codes.FOCAL if measurement.lesion_count == 1 else codes.MULTIFOCAL
    evaluations = [QualitativeEvaluation(name=codes.ABNORMALITY, value=focality)]
    if measurement.label == FLAIR_HYPERINTENSITY:
        evaluations.append(QualitativeEvaluation(name=codes.SIGNAL_CHARACTERISTIC, value=codes.T2_HYPERINTENSITY))
    return evaluations
