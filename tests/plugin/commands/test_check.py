"""`glionode check`: its output and exit statuses. The checks themselves are tested in tests/dicom_seg."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from dicom_seg.encode import Outputs, encode
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.read import read_volume
from pipeline.result import LabelMeasurement, ModelIdentity, SegmentationResult, SourceSeries
from pipeline.scan import scan
from tests.support.node import glionode

NAME, PATIENT_ID = "Quill^Zoe", "P-4711"


def write_images(folder: Path) -> None:
    """A series of four 5 x 6 images, 1 mm pixels, 2 mm apart."""
    folder.mkdir()
    study, series, place = generate_uid(), generate_uid(), generate_uid()
    for number in range(4):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = NAME, PATIENT_ID, "19600101", "F"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, place
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260102", "101112", "S1", "A1"
        image.ReferringPhysicianName, image.Modality, image.Manufacturer, image.SeriesNumber = "", "MR", "SIEMENS", 3
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness, image.InstanceNumber = [1, 1], 2, number + 1
        image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = 5, 6, 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PixelData = bytes(5 * 6 * 2)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(folder / f"{number}.dcm", image, enforce_file_format=True)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of images, and one with SEG and SR made of them."""
    images, results = tmp_path / "images", tmp_path / "results"
    write_images(images)
    results.mkdir()
    (study,) = scan([images]).studies
    volume = read_volume(study.series[0], Role.T1CE)
    result = SegmentationResult(
        study_instance_uid=study.study_instance_uid,
        sources=(SourceSeries(Role.T1CE, study.series[0], volume.geometry, volume.frames, ()),),
        alignments=(),
        masks=np.ones((3, 4, 5, 6), bool),
        measurements=tuple(LabelMeasurement(label, 4 * 5 * 6 * 2 / 1000, 1, None) for label in PAPER_LABELS),
        model=ModelIdentity("phantom-demo", "0.1.0", "ab" * 32, IntendedUse.RESEARCH),
        device="cpu",
    )
    for each in encode(result, datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), Outputs(seg_on=(Role.T1CE,), capture=False)):
        write_dicom(each.dataset, results / each.file_name)
    return images, results


def run(*arguments: str | Path) -> tuple[int, str]:
    return glionode("check", *arguments)


def rewrite(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dcmwrite(path, dataset)


def test_sound_objects_pass(folders: tuple[Path, Path]) -> None:
    images, results = folders
    status, text = run(results, "--study", images)
    assert (status, text.splitlines()) == (
        0,
        ["seg-t1ce.dcm: nothing is wrong.", "sr-measurements.dcm: nothing is wrong."],
    )


def test_what_cannot_be_checked_is_listed_once_and_is_no_failure(folders: tuple[Path, Path]) -> None:
    _, results = folders
    status, text = run(results)
    assert status == 0
    study = dcmread(results / "seg-t1ce.dcm").StudyInstanceUID
    (not_checked,) = (line for line in text.splitlines() if line.startswith("Not checked: "))
    assert study in not_checked
    assert "--study" in not_checked


def test_problems_are_printed_as_sentences_or_json_without_the_patients_name(folders: tuple[Path, Path]) -> None:
    images, results = folders
    rewrite(results / "seg-t1ce.dcm", lambda seg: setattr(seg, "PatientName", "Roe^Richard"))
    rewrite(results / "sr-measurements.dcm", lambda sr: setattr(sr, "PatientID", "P-4712"))
    series = dcmread(images / "0.dcm").SeriesInstanceUID
    wrong = {
        "seg-t1ce.dcm": [f"its PatientName is not that of source series {series}."],
        "sr-measurements.dcm": [f"its PatientID is not that of source series {series}."],
    }
    status, text = run(results, "--study", images)
    assert (status, text.splitlines()) == (1, [f"{name}: {said}" for name, (said,) in wrong.items()])
    status, as_json = run(results, "--study", images, "--json")
    assert status == 1
    assert {each["path"]: each["problems"] for each in json.loads(as_json)} == wrong
    assert [each["not_checked"] for each in json.loads(as_json)] == [[], []]


def test_values_that_pydicom_would_quote_are_not_printed(folders: tuple[Path, Path]) -> None:
    # In a process of its own: warnings go to standard error there.
    images, results = folders
    raw = (results / "seg-t1ce.dcm").read_bytes()
    (results / "seg-t1ce.dcm").write_bytes(raw.replace(b"19600101", b"1960.bad"))
    command = [
        sys.executable,
        "-c",
        "from plugin.commands.app import main; main()",
        "check",
        results,
        "--study",
        images,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "its PatientBirthDate is not that of source series" in done.stdout
    assert not any(word in done.stdout + done.stderr for word in ("1960", "Quill", PATIENT_ID))


def test_nothing_to_check_is_wrong_usage(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, _ = folders
    status, text = run(images)
    assert (status, "holds no SEG, SR or secondary capture" in text) == (64, True)
    status, text = run(tmp_path / "nowhere")
    assert (status, "does not exist" in text) == (64, True)
    status, text = run(images, "--study", tmp_path / "nowhere")
    assert (status, "does not exist" in text) == (64, True)


def test_help() -> None:
    status, text = run("--help")
    assert status == 0
    assert "--study" in text
    assert "Exit status" in text
