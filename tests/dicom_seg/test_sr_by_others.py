"""Both reports, validated and read by other programs."""

import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import Comprehensive3DSRStorage

from dicom_seg.encode import encode
from dicom_seg.predecessor import Predecessor
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from pipeline.diameters import lesion_diameters
from pipeline.remarks import Remark, RemarkKind
from pipeline.result import IntermediateAdc

SHAPE = (5, 41, 46)
REPORTS = ("measurements", "diameters")
EARLIER = tuple(
    Predecessor(f"sr-{name}.dcm", f"1.2.{number}", Comprehensive3DSRStorage, f"1.2.{number}.1")
    for number, name in enumerate(REPORTS, start=1)
)


def two_lesions() -> np.ndarray:
    """Enhancing tumour in two places, all of it FLAIR hyperintense, and no ADC abnormality."""
    masks = np.zeros((3, *SHAPE), bool)
    masks[0, 1:4, 5:18, 6:30] = True
    masks[0, 2:5, 25:36, 30:44] = True
    masks[2] = masks[0]
    return masks


@pytest.fixture
def reports(tmp_path, make_result, started):
    """A result with two measurable lesions, and the paths of its reports by their names."""

    def write(**options):
        result = make_result(two_lesions(), shape=SHAPE, **options)
        source = result.source(Role.T1CE)
        result = replace(result, diameters=lesion_diameters(result.masks[0], source.geometry))
        assert len(result.diameters) == 2
        paths = {name: tmp_path / f"{name}.dcm" for name in REPORTS}
        for name, path in paths.items():
            (report,) = (
                each.dataset
                for each in encode(result, started, predecessors=EARLIER)
                if each.file_name == f"sr-{name}.dcm"
            )
            write_dicom(report, path)
        return result, paths

    return write


def measurements_of(result, started):
    (report,) = (each.dataset for each in encode(result, started) if each.file_name == "sr-measurements.dcm")
    return report


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, **options)


def complaints(text):
    return {line.strip() for line in text.splitlines() if line.startswith(("Error", "Warning"))}


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_dicom3tools_find_no_error(enhanced, reports, program):
    result, paths = reports(enhanced=enhanced)
    images = [instance.path for source in result.sources for instance in source.series.instances]
    for path in paths.values():
        assert complaints(run(program("dciodvfy"), path).stderr) == DCIODVFY_BENIGN
        together = run(program("dcentvfy"), path, *images)
        assert together.returncode == 0
        assert [line for line in complaints(together.stderr) if DCENTVFY_BENIGN not in line] == []


def test_the_report_of_an_empty_result_is_valid(make_result, started, program, tmp_path):
    result = make_result(np.zeros((3, *SHAPE), bool), shape=SHAPE)
    path = tmp_path / "measurements.dcm"
    write_dicom(measurements_of(result, started), path)
    assert complaints(run(program("dciodvfy"), path).stderr) == DCIODVFY_BENIGN
    shown = run(program("dsrdump"), path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("Measurement Group") == len(PAPER_LABELS)


@pytest.fixture
def with_remarks(make_result, started, tmp_path):
    """The report of a study of which a part was not seen: one label was found, two were not. With the experiment."""
    masks = two_lesions()
    masks[2] = False
    result = make_result(masks, shape=SHAPE)
    partial = tuple(replace(each, seen_share=0.8) for each in result.measurements)
    measured = replace(partial[0], intermediate_adc=IntermediateAdc(3.5, 1248.0, 780.0))
    result = replace(result, measurements=(measured, *partial[1:]), remarks=REMARKS)
    path = tmp_path / "measurements.dcm"
    write_dicom(measurements_of(result, started), path)
    return path


def test_the_report_of_a_study_with_remarks_is_valid_and_says_them(with_remarks, program):
    assert complaints(run(program("dciodvfy"), with_remarks).stderr) == DCIODVFY_BENIGN
    shown = run(program("dsrdump"), "+Pl", with_remarks)
    assert (shown.returncode, shown.stderr) == (0, "")
    groups = shown.stdout.split('"Measurement Group")')
    assert len(groups) == 1 + len(PAPER_LABELS) + 1
    for remark in REMARKS:
        assert f'"Comment")="{remark.text}"' in shown.stdout
    assert shown.stdout.count("Not found in the part of the head that was seen.") == 2
    assert shown.stdout.count("Indeterminate") == 2
    experiment = groups.pop()
    assert '"Tracking Identifier")="Intermediate ADC in Enhancing tumour (experiment)"' in experiment
    assert '"Comment")="An experiment that is not validated' in experiment
    assert '"Threshold Value")="1248.0" (10-6.mm2/s' in experiment
    assert '"Volume")="3.5" (cm3' in experiment
    volumes = [line for group in groups for line in group.splitlines() if '"Volume")' in line]
    assert len(volumes) == 1, "a label that was not found where not all was seen has no volume"
    assert '="0"' not in volumes[0]


def test_the_template_validator_finds_no_error_in_remarks(with_remarks, program):
    assert template_complaints(program, with_remarks, BENIGN["measurements"]) == []


REMARKS = (
    Remark(RemarkKind.COVERAGE, "The top 40 mm of the head were not seen on ADC.", (Role.ADC,)),
    Remark(RemarkKind.DATES, "The series were acquired 3 days apart."),
    Remark(RemarkKind.EXPERIMENT, "Intermediate ADC, an experiment that is not validated, is a volume.", (Role.ADC,)),
)
DCIODVFY_BENIGN = {
    # PS3.3 C.12.1.5 has Device UID among the equipment's attributes; dicom3tools 1.00 does not know it there yet.
    "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
    "Warning - Dicom dataset contains attributes not present in standard DICOM IOD"
    " - this is a Standard Extended SOP Class",
}
# dicom3tools counts the accession number of an SR to the study and that of an MR image to the series.
DCENTVFY_BENIGN = "Warning - Different information entities for attribute - Element=<AccessionNumber>"


@pytest.mark.parametrize("name", REPORTS)
def test_the_template_validator_finds_no_error(name, reports, program):
    _, paths = reports()
    assert template_complaints(program, paths[name], BENIGN[name]) == []


def template_complaints(program, path, benign):
    limits = ("xpathTotalOpLimit", "xpathExprGrpLimit", "xpathExprOpLimit")
    # The first compiler alone: the second costs more processor time than it saves in a run of seconds.
    options = " ".join(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *(f"-Djdk.xml.{limit}=0" for limit in limits)])
    done = run(program("DicomSRValidator"), path, env={**os.environ, "JAVA_TOOL_OPTIONS": options})
    lines = (done.stdout + done.stderr).splitlines()
    assert "Found Root Template TID_1500 (MeasurementReport)" in lines
    assert "Root Template Validation Complete" in lines
    assert "IOD validation complete" in lines
    return [line for line in lines if line.startswith(("Error", "Warning")) and not is_benign(line, benign)]


def is_benign(line, benign):
    return line.startswith("Warning") and any(item in line and reason in line for item, reason in benign)


NOT_IN_TEMPLATE = "Content Item not in template"
# pixelmed's copy of PS3.16 is older than these rows of TID 1411 and TID 1501, or tells meanings apart by a capital.
BENIGN = {
    "measurements": [
        ('(121232,DCM,"Source Series for Segmentation")', "has different code meaning"),
        ('(276214006,SCT,"Finding category")', NOT_IN_TEMPLATE),
        ('(111001,DCM,"Algorithm Name")', NOT_IN_TEMPLATE),
        ('(111003,DCM,"Algorithm Version")', NOT_IN_TEMPLATE),
        ('(122405,DCM,"Algorithm Manufacturer")', NOT_IN_TEMPLATE),
        ('(111002,DCM,"Algorithm Parameters")', NOT_IN_TEMPLATE),
        ('(111000,DCM,"Algorithm Family")', NOT_IN_TEMPLATE),
        ('(C9440,NCIt,"Abnormality")', NOT_IN_TEMPLATE),
        # TID 1411 is extensible; only a label of which not all was seen has one.
        ('(121106,DCM,"Comment")', NOT_IN_TEMPLATE),
        ('(RID6049,RADLEX,"Signal characteristic")', NOT_IN_TEMPLATE),
    ],
    "diameters": [
        ('(276214006,SCT,"Finding category")', NOT_IN_TEMPLATE),
        ('(122405,DCM,"Algorithm Manufacturer")', NOT_IN_TEMPLATE),
    ],
}


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
def test_dcmtk_reads_both_without_a_warning(enhanced, reports, program):
    result, paths = reports(enhanced=enhanced)
    # -Ec and its like would forgive; without them dsrdump refuses what breaks the constraints of the SOP class.
    shown = {name: run(program("dsrdump"), "+Pl", paths[name]) for name in REPORTS}
    for name in REPORTS:
        dumped = run(program("dcmdump"), paths[name])
        assert (dumped.returncode, dumped.stderr, shown[name].returncode, shown[name].stderr) == (0, "", 0, "")
    assert shown["measurements"].stdout.count("Measurement Group") == len(PAPER_LABELS)
    assert shown["diameters"].stdout.count("Measurement Group") == len(result.diameters)
    lines = shown["diameters"].stdout.splitlines()
    for lesion in result.diameters:
        for name, line in (("Long Axis", lesion.long), ("Short Axis", lesion.short)):
            assert any(f'"{name}")="{line.length_mm:.6g}" (mm,UCUM,"mm")' in text for text in lines)


def test_dcmqi_reads_the_same_diameters(reports, program, tmp_path):
    result, paths = reports()
    out = tmp_path / "diameters.json"
    done = run(program("tid1500reader"), "--inputDICOM", paths["diameters"], "--outputMetadata", out)
    assert done.returncode == 0
    read = json.loads(out.read_text())["Measurements"]
    for group, lesion in zip(read, result.diameters, strict=True):
        assert group["TrackingIdentifier"] == f"Enhancing tumour, lesion {lesion.lesion}"
        assert group["measurementMethod"]["CodeValue"] == "C114879"
        numbers = {
            (item["quantity"]["CodeValue"], item["units"]["CodeValue"]): float(item["value"])
            for item in group["measurementItems"]
        }
        assert numbers == {
            ("103339001", "mm"): pytest.approx(lesion.long.length_mm, rel=1e-5),
            ("103340004", "mm"): pytest.approx(lesion.short.length_mm, rel=1e-5),
        }
