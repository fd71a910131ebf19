"""References from a study's new reports to its earlier ones."""

from dataclasses import replace
from io import BytesIO

from pydicom import dcmread, dcmwrite
from pydicom.uid import Comprehensive3DSRStorage

from dicom_seg.encode import Outputs, encode
from dicom_seg.predecessor import Predecessor
from pipeline.result import Diameter, LesionDiameters

MEASUREMENTS, DIAMETERS = "sr-measurements.dcm", "sr-diameters.dcm"
EARLIER = (
    Predecessor(MEASUREMENTS, "1.2.1", Comprehensive3DSRStorage, "1.2.1.1"),
    Predecessor(DIAMETERS, "1.2.2", Comprehensive3DSRStorage, "1.2.2.1"),
)


def with_diameters(result):
    line = Diameter((1.5, 2.0), (10.0, 8.5), 10.0)
    return replace(result, diameters=(LesionDiameters(1, 4, line, line),))


def encoded(result, started, predecessors=EARLIER, wanted=None):
    """Return the objects read back from their bytes, by file name."""
    found = {}
    for each in encode(result, started, wanted or Outputs(capture=False), predecessors):
        buffer = BytesIO()
        dcmwrite(buffer, each.dataset, enforce_file_format=True)
        found[each.file_name] = buffer.getvalue()
    return found


def named_by(content):
    """Return (study, series, class, instance) UIDs of the predecessors that a report names."""
    return [
        (
            study.StudyInstanceUID,
            series.SeriesInstanceUID,
            reference.ReferencedSOPClassUID,
            reference.ReferencedSOPInstanceUID,
        )
        for study in dcmread(BytesIO(content)).get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]


def test_each_report_names_its_predecessor(make_result, started):
    result = with_diameters(make_result())
    files = encoded(result, started)
    study = result.study_instance_uid
    assert named_by(files[MEASUREMENTS]) == [(study, "1.2.1", Comprehensive3DSRStorage, "1.2.1.1")]
    assert named_by(files[DIAMETERS]) == [(study, "1.2.2", Comprehensive3DSRStorage, "1.2.2.1")]
    assert files == encoded(result, started)


def test_every_earlier_report_has_a_successor(make_result, started):
    assert {uid for *_, uid in named_by(encoded(make_result(), started)[MEASUREMENTS])} == {"1.2.1.1", "1.2.2.1"}
    only_diameters = Outputs(measurements=False, capture=False)
    files = encoded(with_diameters(make_result()), started, wanted=only_diameters)
    assert {uid for *_, uid in named_by(files[DIAMETERS])} == {"1.2.1.1", "1.2.2.1"}


def test_a_first_report_and_one_made_again_name_no_predecessor(make_result, started):
    result = make_result()
    first = encoded(result, started, ())[MEASUREMENTS]
    assert "PredecessorDocumentsSequence" not in dcmread(BytesIO(first))
    itself = Predecessor(MEASUREMENTS, "1.2", Comprehensive3DSRStorage, dcmread(BytesIO(first)).SOPInstanceUID)
    assert encoded(result, started, (itself,))[MEASUREMENTS] == first
