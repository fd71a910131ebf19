"""The report of diameters, read back from bytes."""

from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from dicom_seg.encode import encode
from dicom_seg.source_headers import read_headers
from dicom_seg.sr_diameters import encode_diameters
from dicom_seg.uids import lesion_tracking_uid, tracking_uid
from dicom_seg.write import write_dicom
from models.labels import ENHANCING_TUMOUR, Role
from models.package import IntendedUse
from pipeline.result import Diameter, LesionDiameters


def line(result, start, end) -> Diameter:
    spacing = result.source(Role.T1CE).geometry.spacing_mm[1:]
    return Diameter(start, end, float(np.linalg.norm((np.array(end) - start) * spacing)))


@pytest.fixture
def with_diameters(make_result):
    """A result with two lesions; their lines are arbitrary, because the encoder does not measure."""

    def make(**options):
        result = make_result(**options)
        first = LesionDiameters(1, 4, line(result, (1.5, 2.0), (10.0, 8.5)), line(result, (3.25, 7.0), (8.0, 2.5)))
        second = LesionDiameters(2, 1, line(result, (0.0, 1.0), (6.5, 9.0)), line(result, (2.5, 6.0), (5.0, 3.0)))
        return replace(result, diameters=(first, second))

    return make


@pytest.fixture
def written(tmp_path, started):
    """Write the diameters of a result as a file."""

    def write(result):
        path = tmp_path / "diameters.dcm"
        write_dicom(encode_diameters(result, read_headers(result.source(Role.T1CE)), started), path)
        return path

    return write


def groups(path):
    return hd.sr.srread(path).content.get_planar_roi_measurement_groups() or [
        hd.sr.MeasurementsAndQualitativeEvaluations.from_sequence([item])
        for item in everything(dcmread(path))
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == "125007"
    ]


def everything(item):
    """All content items of a report, from its root."""
    yield item
    for child in item.get("ContentSequence", ()):
        yield from everything(child)


def texts(path):
    return [item.TextValue for item in everything(dcmread(path)) if "TextValue" in item]


def in_patient(point, image, frame):
    """Return the position (mm) of (column, row) in an image by its header (PS3.3 C.18.6.1.2, C.7.6.2.1.1)."""
    if frame is not None:
        groups = image.PerFrameFunctionalGroupsSequence[frame - 1]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        orientation = groups.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    else:
        position, orientation, spacing = image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing
    along_row, down = np.array(orientation, float).reshape(2, 3)
    column, row = np.array(point, float) - 0.5
    return np.array(position, float) + column * spacing[1] * along_row + row * spacing[0] * down


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_lines_have_the_position_where_they_were_measured(orientation, enhanced, with_diameters, written):
    result = with_diameters(orientation=orientation, enhanced=enhanced)
    source = result.source(Role.T1CE)
    paths = {instance.sop_instance_uid: instance.path for instance in source.series.instances}
    for group, lesion in zip(groups(written(result)), result.diameters, strict=True):
        for measurement, expected in zip(group.get_measurements(), (lesion.long, lesion.short), strict=True):
            (region,) = measurement.referenced_coordinates
            assert region.graphic_type is hd.sr.GraphicTypeValues.POLYLINE
            reference = region.ContentSequence[0].ReferencedSOPSequence[0]
            image = dcmread(paths[reference.ReferencedSOPInstanceUID])
            assert reference.ReferencedSOPClassUID == image.SOPClassUID
            frame = reference.get("ReferencedFrameNumber")
            assert (frame is not None) is enhanced
            drawn = np.array([in_patient(point, image, frame) for point in region.value])
            voxels = np.array([(lesion.slice_index, *expected.start, 1), (lesion.slice_index, *expected.end, 1)])
            assert drawn == pytest.approx((voxels @ source.geometry.affine.T)[:, :3], abs=1e-4)
            assert measurement.value == pytest.approx(np.linalg.norm(drawn[1] - drawn[0]), abs=1e-3)
            assert measurement.unit.value == "mm"


def test_each_lesion_has_tracking_finding_and_rano_measurements(with_diameters, written):
    result = with_diameters()
    for number, group in enumerate(groups(written(result)), 1):
        assert group.tracking_identifier == f"Enhancing tumour, lesion {number}"
        assert group.tracking_uid == lesion_tracking_uid(result, ENHANCING_TUMOUR, number)
        assert (group.finding_type.value, group.finding_category.value) == ("C113842", "49755003")
        assert [site.value.value for site in group.finding_sites] == ["12738006"]
        assert (group.method.value, group.method.scheme_designator) == ("C114879", "NCIt")
        names = [(item.name.value, item.name.meaning) for item in group.get_measurements()]
        assert names == [("103339001", "Long Axis"), ("103340004", "Short Axis")]


def test_tracking_uids_differ_by_lesion_and_do_not_depend_on_the_images(make_result):
    result = make_result()
    first, second = (lesion_tracking_uid(result, ENHANCING_TUMOUR, number) for number in (1, 2))
    assert len({first, second, tracking_uid(result, ENHANCING_TUMOUR)}) == 3
    assert first == lesion_tracking_uid(with_other_frames(result), ENHANCING_TUMOUR, 1)
    other_model = replace(result, model=replace(result.model, sha256="cd" * 32))
    assert first != lesion_tracking_uid(other_model, ENHANCING_TUMOUR, 1)


def test_each_diameter_contains_only_its_line(with_diameters, written):
    for group in groups(written(with_diameters())):
        numbers = [item for item in group[0].ContentSequence if item.ValueType == "NUM"]
        assert len(numbers) == 2
        for number in numbers:
            (inferred,) = number.ContentSequence
            assert (inferred.ValueType, inferred.RelationshipType) == ("SCOORD", "INFERRED FROM")
            (selected,) = inferred.ContentSequence
            assert (selected.ValueType, selected.RelationshipType) == ("IMAGE", "SELECTED FROM")


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [("axial", "0 degrees from axial"), ("sagittal", "0 degrees from sagittal"), ("oblique", None)],
)
def test_parameters_state_the_plane_and_the_limits(orientation, plane, with_diameters, written):
    result = with_diameters(orientation=orientation)
    parameters = texts(written(result))
    if plane is None:
        normal = result.source(Role.T1CE).geometry.affine[:3, 0]
        plane = f"{np.degrees(np.arccos(normal[2] / np.linalg.norm(normal))):.0f} degrees from axial"
        assert not plane.startswith("0 ")
    for sentence in (
        f"plane=slices of T1CE, {plane}; RANO measures axial slices",
        "measurable=on two or more slices, both diameters at least 10 mm (RANO)",
        "measured=2 of 2 lesions, largest first, at most 5",
        "Demonstration only, not for clinical use",
        f"weights_sha256={result.model.sha256}",
    ):
        assert parameters.count(sentence) == len(result.diameters)


@pytest.mark.parametrize(("use", "warned"), [(IntendedUse.DEMONSTRATION, True), (IntendedUse.CLINICAL, False)])
def test_only_a_limited_intended_use_is_stated(use, warned, with_diameters, written):
    path = written(with_diameters(intended_use=use))
    assert dcmread(path).SeriesDescription.startswith("Demonstration only") is warned
    assert any("not for clinical use" in text for text in texts(path)) is warned


def test_the_report_has_a_series_of_its_own_and_the_patient_of_the_source(with_diameters, written, started, tmp_path):
    result = with_diameters()
    report = dcmread(written(result))
    (encoded,) = (each.dataset for each in encode(result, started) if each.file_name == "sr-measurements.dcm")
    write_dicom(encoded, tmp_path / "measurements.dcm")
    measurements = dcmread(tmp_path / "measurements.dcm")
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert report[keyword].value != measurements[keyword].value
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "SOPClassUID", "ContentTime"):
        assert report[keyword].value == measurements[keyword].value
    assert report.SeriesNumber == 8005
    assert report.ContentTime == f"{started:%H%M%S.%f}"


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_evidence_is_the_t1ce_series(enhanced, with_diameters, written):
    result = with_diameters(enhanced=enhanced)
    path = written(result)
    source = result.source(Role.T1CE)
    series = source.series.series_instance_uid
    expected = {(series, frame.sop_instance_uid, frame.sop_class_uid) for frame in source.frames}
    evidence = [tuple(map(str, item[1:])) for item in hd.sr.srread(path).get_evidence()]
    assert sorted(evidence) == sorted(expected)
    (library,) = (
        item for item in everything(dcmread(path)) if item.get("RelationshipType") == "CONTAINS" and is_image(item)
    )
    reference = library.ReferencedSOPSequence[0]
    assert (series, reference.ReferencedSOPInstanceUID, reference.ReferencedSOPClassUID) in expected


def is_image(item):
    return item.get("ValueType") == "IMAGE"


def test_same_inputs_give_the_same_bytes(with_diameters, written):
    result = with_diameters()
    first = written(result).read_bytes()
    assert written(result).read_bytes() == first


def test_without_a_measurable_lesion_there_is_nothing_to_encode(make_result, started):
    result = make_result()
    with pytest.raises(AssertionError, match="diameters"):
        encode_diameters(result, read_headers(result.source(Role.T1CE)), started)


def with_other_frames(result):
    """Return the result with other images of the same patient."""
    return replace(result, sources=tuple(replace(each, frames=each.frames[1:]) for each in result.sources))
