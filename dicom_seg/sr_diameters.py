"""Encode diameters as a structured report: TID 1500, one TID 1501 group per lesion, each line on its slice.

This report (SR-B) is separate from that of volumes (SR-A, `sr`), because OHIF 3.13 blanks its report view if one object
has both. OHIF takes the first content item of a measurement for the line, so a measurement contains nothing else; what
holds for both diameters is in their group. OHIF draws the lines but does not turn them into its own editable
measurements: for that, the tracking identifier would have to be the name of one of its tools.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom.sr import (
    CoordinatesForMeasurement,
    FindingSite,
    GraphicTypeValues,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    RelationshipTypeValues,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_seg import codes, series_numbers
from dicom_seg.predecessor import Predecessor
from dicom_seg.source_headers import SourceHeaders, SourcePlane
from dicom_seg.sr_document import (
    EvidenceInstance,
    ReportContent,
    ReportSeries,
    algorithm,
    encode_report,
    six_digits,
)
from dicom_seg.uids import lesion_tracking_uid
from models.labels import ENHANCING_TUMOUR, Role
from pipeline.diameters import MEASURABLE_MM, MEASURED_AT_MOST
from pipeline.result import Diameter, LesionDiameters, SegmentationResult
from pipeline.volume import Geometry

SERIES = ReportSeries(series_numbers.DIAMETERS, "diameters", "Glioma diameters", codes.IMAGING_MEASUREMENT_REPORT)


def encode_diameters(
    result: SegmentationResult,
    source: SourceHeaders,
    started: datetime,
    predecessors: Sequence[Predecessor] = (),
) -> Dataset:
    """Return the diameters of a result's measurable enhancing lesions as a report (SR-B).

    `source` is the headers of the T1CE series. The result must have diameters: without a measurable lesion there is no
    SR-B, because TID 1500 cannot say so, viewers open a report without groups as an empty page, and SR-A has the lesion
    count and volume.
    """
    assert result.diameters, "a report of diameters needs at least one lesion"
    content = ReportContent(
        groups=[_group(lesion, result, source) for lesion in result.diameters],
        library=[source],
        evidence=[EvidenceInstance(*instance) for instance in source.instances],
        predecessors=predecessors,
    )
    return encode_report(content, SERIES, result, source, started)


def _group(
    lesion: LesionDiameters, result: SegmentationResult, source: SourceHeaders
) -> MeasurementsAndQualitativeEvaluations:
    plane = source.planes[lesion.slice_index]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=lesion_tracking_uid(result, ENHANCING_TUMOUR, lesion.lesion),
            identifier=f"{ENHANCING_TUMOUR.title}, lesion {lesion.lesion}",
        ),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        finding_type=codes.property_type(ENHANCING_TUMOUR),
        finding_sites=[FindingSite(anatomic_location=codes.BRAIN)],
        method=codes.RANO,
        algorithm_id=algorithm(result, _method_parameters(result)),
        measurements=[
            _measurement(codes.LONG_AXIS, lesion.long, plane),
            _measurement(codes.SHORT_AXIS, lesion.short, plane),
        ],
    )
    for item in group[0].ContentSequence:
        # highdicom 0.28.2 writes CONTAINS, but TID 1501 row 5 demands HAS CONCEPT MOD.
        if item.name == codes.MEASUREMENT_METHOD:
            item.RelationshipType = RelationshipTypeValues.HAS_CONCEPT_MOD.value
    return group


def _measurement(name: Code, line: Diameter, plane: SourcePlane) -> Measurement:
    image = SourceImageForRegion(
        referenced_sop_class_uid=plane.frame.sop_class_uid,
        referenced_sop_instance_uid=plane.frame.sop_instance_uid,
        referenced_frame_numbers=[plane.frame.number] if plane.multi_frame else None,
    )
    # PS3.3 C.18.6.1.2: (column, row) from the outer corner of the first voxel, whose centre is (0.5, 0.5).
    ends = np.array([(column + 0.5, row + 0.5) for row, column in (line.start, line.end)])
    return Measurement(
        name=name,
        value=six_digits(line.length_mm),
        unit=codes.MILLIMETRE,
        referenced_coordinates=[CoordinatesForMeasurement(GraphicTypeValues.POLYLINE, ends, image)],
    )


def _method_parameters(result: SegmentationResult) -> Sequence[str]:
    (lesions,) = (each.lesion_count for each in result.measurements if each.label == ENHANCING_TUMOUR)
    return (
        f"plane=slices of T1CE, {_nearest_plane(result.source(Role.T1CE).geometry)}; RANO measures axial slices",
        f"measurable=on two or more slices, both diameters at least {MEASURABLE_MM:g} mm (RANO)",
        f"measured={len(result.diameters)} of {lesions} lesions, largest first, at most {MEASURED_AT_MOST}",
        "outline=enhancing tumour with the necrosis that it encloses in its slice, lines from edge to edge within it",
        # Not as text items of the report: OHIF 3.13 draws this one, and shows no text of it.
        *(f"remark={remark.text}" for remark in result.remarks),
    )


def _nearest_plane(geometry: Geometry) -> str:
    """Return the anatomical plane nearest to the slices, and the angle between them, as text."""
    normal = np.abs(np.cross(geometry.row_step_mm, geometry.column_step_mm))
    normal /= np.linalg.norm(normal)
    nearest = int(normal.argmax())
    angle = np.degrees(np.arccos(min(1.0, float(normal[nearest]))))
    return f"{angle:.0f} degrees from {('sagittal', 'coronal', 'axial')[nearest]}"
