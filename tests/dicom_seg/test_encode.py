import subprocess

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from dicom_seg.encode import encode
from dicom_seg.write import write_dicom


def test_objects_are_named_and_described(make_result, started):
    objects = encode(make_result(), started)
    assert [(item.file_name, item.sop_class_uid) for item in objects] == [
        ("seg-t1ce.dcm", SegmentationStorage),
        ("sr-measurements.dcm", Comprehensive3DSRStorage),
    ]
    for item in objects:
        assert item.series_description == item.dataset.SeriesDescription
    assert len({item.dataset.SeriesInstanceUID for item in objects}) == 2
    assert len({item.dataset.SeriesNumber for item in objects}) == 2


@pytest.mark.parametrize("enhanced", [False, True])
def test_objects_and_sources_are_one_consistent_study(enhanced, make_result, started, program, tmp_path):
    result = make_result(orientation="sagittal", enhanced=enhanced)
    files = [instance.path for source in result.sources for instance in source.series.instances]
    for item in encode(result, started):
        files.append(tmp_path / item.file_name)
        write_dicom(item.dataset, files[-1])
    done = subprocess.run([program("dcentvfy"), *files], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert {dcmread(file, stop_before_pixels=True).StudyInstanceUID for file in files} == {result.study_instance_uid}


def test_dcentvfy_sees_another_patient(make_result, started, program, tmp_path):
    result = make_result()
    seg, _ = encode(result, started)
    seg.dataset.PatientBirthDate = "19610101"
    write_dicom(seg.dataset, tmp_path / "seg.dcm")
    files = [result.sources[2].series.instances[0].path, tmp_path / "seg.dcm"]
    done = subprocess.run([program("dcentvfy"), *files], capture_output=True, text=True, check=False)
    assert "Error" in done.stdout + done.stderr
