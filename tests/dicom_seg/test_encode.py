"""All objects of a study together: names, descriptions, and consistency as seen by other programs."""

import subprocess

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage

from dicom_seg.encode import Outputs, encode
from dicom_seg.write import write_dicom
from models.labels import Role


def test_objects_are_named_and_described(make_result, with_everything, started):
    objects = encode(with_everything(make_result()), started, Outputs())
    assert [(item.file_name, item.sop_class_uid) for item in objects] == [
        ("seg-t1ce.dcm", SegmentationStorage),
        ("seg-flair.dcm", SegmentationStorage),
        ("seg-adc.dcm", SegmentationStorage),
        ("sr-measurements.dcm", Comprehensive3DSRStorage),
        ("sr-diameters.dcm", Comprehensive3DSRStorage),
        ("capture-01.dcm", SecondaryCaptureImageStorage),
        ("capture-02.dcm", SecondaryCaptureImageStorage),
    ]
    for item in objects:
        assert item.series_description == item.dataset.SeriesDescription
    # A series each, but for the captures, which share one.
    assert len({item.dataset.SeriesInstanceUID for item in objects}) == 6
    assert len({item.dataset.SeriesNumber for item in objects}) == 6


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Outputs(seg_on=(Role.T1CE,), diameters=False, capture=False), ["seg-t1ce.dcm", "sr-measurements.dcm"]),
        (Outputs(seg_on=(Role.ADC,), measurements=False, capture=False), ["seg-adc.dcm", "sr-diameters.dcm"]),
        (Outputs((), False, False, True), ["capture-01.dcm", "capture-02.dcm"]),
    ],
)
def test_only_requested_objects_are_encoded(wanted, names, make_result, with_everything, started):
    objects = encode(with_everything(make_result()), started, wanted)
    assert [item.file_name for item in objects] == names


def test_measurements_without_the_seg_that_they_refer_to_are_refused():
    with pytest.raises(ValueError, match="T1CE"):
        Outputs(seg_on=(Role.FLAIR,))


@pytest.fixture
def write_study(make_result, with_everything, started, tmp_path):
    """Write a study and all objects made of it; gives the files."""

    def write(**grid):
        result = with_everything(make_result(**grid))
        files = [instance.path for source in result.sources for instance in source.series.instances]
        for item in encode(result, started, Outputs()):
            files.append(tmp_path / item.file_name)
            write_dicom(item.dataset, files[-1])
        return files

    return write


@pytest.mark.parametrize(
    "grid",
    [
        {"orientation": "sagittal"},
        {"orientation": "double oblique", "enhanced": True},
        {"orientation": "coronal", "one_frame_of_reference": False},
        {"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう", "character_set": ["", "ISO 2022 IR 87"]},
    ],
    ids=["sagittal", "enhanced", "frames of reference", "Japanese"],
)
def test_objects_and_sources_are_one_consistent_study(grid, write_study, program):
    files = write_study(**grid)
    assert len({dcmread(file, stop_before_pixels=True).StudyInstanceUID for file in files}) == 1
    assert errors_of_dcentvfy(program, files) == []


def test_dcentvfy_reports_another_patient(write_study, program):
    files = write_study()
    seg = dcmread(files[-1])
    seg.PatientBirthDate = "19610101"
    seg.save_as(files[-1])
    assert errors_of_dcentvfy(program, files)


def errors_of_dcentvfy(program, files):
    done = subprocess.run([program("dcentvfy"), *files], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("enhanced", [False, True])
def test_dcmtk_reads_every_object_without_a_warning(enhanced, write_study, program):
    for file in write_study(enhanced=enhanced, orientation="tilted")[-7:]:
        done = subprocess.run([program("dcmdump"), file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("PatientName") == 1


@pytest.mark.parametrize("enhanced", [False, True])
def test_dciodvfy_finds_no_error_in_any_object(enhanced, write_study, program):
    for file in write_study(enhanced=enhanced, orientation="oblique")[-7:]:
        done = subprocess.run([program("dciodvfy"), file], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
