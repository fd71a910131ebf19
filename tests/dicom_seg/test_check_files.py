"""The check of files of any origin, with all, some or none of their study's images."""

import json
import shutil
import subprocess
from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from dicom_seg.check_files import check_files
from dicom_seg.encode import Outputs, encode
from dicom_seg.write import write_dicom
from models.labels import Role
from pipeline.errors import StudyUnreadable


@pytest.fixture
def folders(make_result, started, tmp_path):
    """A folder with the images of a study, and one with SEG and SR made of them."""
    result = make_result(orientation="double oblique")
    results = tmp_path / "results"
    results.mkdir()
    for each in encode(result, started, Outputs()):
        write_dicom(each.dataset, results / each.file_name)
    return result.source(Role.T1CE).series.instances[0].path.parents[1], results


def problems(checked):
    return {each.file_name: each.problems for each in checked if each.problems}


def rewrite(path, change):
    dataset = dcmread(path)
    change(dataset)
    dcmwrite(path, dataset)


def test_our_own_objects_pass_beside_their_images_and_apart_from_them(folders):
    images, results = folders
    checked = check_files(results, images)
    assert [each.file_name for each in checked] == ["seg-t1ce.dcm", "sr-measurements.dcm"]
    assert problems(checked) == {}
    assert not any(each.not_checked for each in checked)
    shutil.copytree(results, images / "results")
    assert [each.file_name for each in check_files(images)] == ["results/seg-t1ce.dcm", "results/sr-measurements.dcm"]
    assert problems(check_files(images)) == {}


def test_without_the_images_the_rest_is_checked_and_the_lack_is_one_sentence(folders):
    _, results = folders
    checked = check_files(results)
    assert problems(checked) == {}
    ((not_checked,),) = {each.not_checked for each in checked}
    assert "because none of them was given" in not_checked
    rewrite(results / "sr-measurements.dcm", lambda sr: setattr(numbers(sr)[0], "NumericValue", "-1"))
    assert "a volume is negative." in problems(check_files(results))["sr-measurements.dcm"]


def numbers(report):
    (measurements,) = (item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    return [
        item.MeasuredValueSequence[0]
        for group in measurements.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]


def test_a_missing_image_is_an_unresolved_reference(folders):
    images, results = folders
    missing = next(path for path in (images / "T1CE").iterdir())
    uid = dcmread(missing).SOPInstanceUID
    missing.unlink()
    found = problems(check_files(results, images))
    assert found.keys() == {"seg-t1ce.dcm", "sr-measurements.dcm"}
    assert set(found.values()) == {(f"it refers to {uid}, which cannot be found.",)}


def test_a_report_alone_is_compared_with_the_seg_beside_the_study(folders):
    images, results = folders
    report = results / "sr-measurements.dcm"
    uid = dcmread(results / "seg-t1ce.dcm").SOPInstanceUID
    assert problems(check_files(report, images)) == {report.name: (f"it refers to {uid}, which cannot be found.",)}
    shutil.move(results / "seg-t1ce.dcm", images)
    assert [each.file_name for each in check_files(report, images)] == [report.name]
    assert problems(check_files(report, images)) == {}
    rewrite(report, lambda sr: setattr(numbers(sr)[0], "NumericValue", "9.5"))
    (found,) = problems(check_files(report, images)).values()
    assert len(found) == 1
    assert found[0].startswith("the volume of segment 1 is not that of the segment's voxels")


def test_another_transfer_syntax_passes_unless_the_voxels_are_compressed(folders):
    images, results = folders
    seg = dcmread(results / "seg-t1ce.dcm")
    seg.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dcmwrite(results / "seg-t1ce.dcm", seg, implicit_vr=True, little_endian=True)
    assert problems(check_files(results, images)) == {}
    seg.file_meta.TransferSyntaxUID = RLELossless
    seg["PixelData"].is_undefined_length = True
    seg.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"  # no fragment is read
    dcmwrite(results / "seg-t1ce.dcm", seg, implicit_vr=False, little_endian=True)
    found = problems(check_files(results, images))
    assert found == {"seg-t1ce.dcm": ("its voxels are compressed, which some readers of SEG refuse.",)}


def test_the_seg_of_another_program_passes_and_its_damage_is_named(folders, program, tmp_path):
    images, _ = folders
    sources = sorted((images / "T1CE").iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in sources])
    image = reader.Execute()
    mask = np.zeros(image.GetSize()[::-1], np.uint8)
    mask[2:5, 3:9, 2:7] = 1
    truth = sitk.GetImageFromArray(mask)
    truth.CopyInformation(image)
    sitk.WriteImage(truth, str(tmp_path / "mask.nrrd"))
    code = {
        "CodeValue": "49755003",
        "CodingSchemeDesignator": "SCT",
        "CodeMeaning": "Morphologically Abnormal Structure",
    }
    segment = {
        "labelID": 1,
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code,
        "SegmentedPropertyTypeCodeSequence": {
            "CodeValue": "52988006",
            "CodingSchemeDesignator": "SCT",
            "CodeMeaning": "Lesion",
        },
    }
    meta = {"ContentCreatorName": "Reader^A", "SeriesNumber": "900", "segmentAttributes": [[segment]]}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    made = tmp_path / "by-dcmqi.dcm"
    subprocess.run(
        [
            *(program("itkimage2segimage"), "--inputImageList", tmp_path / "mask.nrrd"),
            *("--inputDICOMDirectory", images / "T1CE", "--inputMetadata", tmp_path / "meta.json"),
            *("--outputDICOM", made, "--skip"),
        ],
        check=True,
        capture_output=True,
    )
    assert problems(check_files(made, images)) == {}
    rewrite(made, lambda seg: setattr(seg.PerFrameFunctionalGroupsSequence[1], "DerivationImageSequence", []))
    assert problems(check_files(made, images)) == {made.name: ("frame 2: no source image.",)}


def test_a_screenshot_need_not_name_its_source_images(folders):
    images, results = folders
    shot = Dataset()
    header = dcmread(next((images / "FLAIR").iterdir()))
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber"),
        "SpecificCharacterSet",
    ):
        shot[keyword] = deepcopy(header[keyword])
    shot.SOPClassUID, shot.SOPInstanceUID, shot.SeriesInstanceUID = SecondaryCaptureImageStorage, "2.25.7", "2.25.8"
    shot.file_meta = FileMetaDataset()
    shot.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(results / "shot.dcm", shot, enforce_file_format=True)
    assert problems(check_files(results, images)) == {}
    rewrite(results / "shot.dcm", lambda dataset: setattr(dataset, "PatientBirthDate", "19610101"))
    (found,) = problems(check_files(results, images)).values()
    assert "its PatientBirthDate is not that of source series" in found[0]


def test_damaged_files_are_reported(folders):
    images, results = folders
    whole = (results / "seg-t1ce.dcm").read_bytes()
    (results / "seg-t1ce.dcm").write_bytes(whole[: len(whole) - 100])
    (results / "sr-measurements.dcm").write_bytes((results / "sr-measurements.dcm").read_bytes()[:300])
    found = problems(check_files(results, images))
    assert found.keys() == {"seg-t1ce.dcm", "sr-measurements.dcm"}


def test_one_uid_in_two_series_is_reported(folders):
    images, results = folders
    other = dcmread(results / "seg-t1ce.dcm")
    other.SeriesInstanceUID = "2.25.9"
    dcmwrite(results / "seg-t2.dcm", other)
    found = problems(check_files(results, images))
    assert ("it has the same SOP instance UID as seg-t1ce.dcm.",) in found.values() or (
        "it has the same SOP instance UID as seg-t2.dcm.",
    ) in found.values()


@pytest.mark.parametrize("file", ["seg-t1ce.dcm", "sr-measurements.dcm"])
def test_objects_that_lack_an_attribute_are_checked_without_an_error(file, folders, tmp_path):
    images, results = folders
    whole = dcmread(results / file)
    lacking = tmp_path / "lacking.dcm"
    found = {}
    for keyword in [element.keyword for element in whole if element.keyword not in UIDS]:
        dataset = deepcopy(whole)
        delattr(dataset, keyword)
        dcmwrite(lacking, dataset)
        found[keyword] = problems(check_files(lacking, images)).get("lacking.dcm", ())
    needed = NEEDED[file]
    assert {keyword: len(found[keyword]) > 0 for keyword in needed} == dict.fromkeys(needed, True)


UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
"""Without these an object cannot be identified at all."""
NEEDED = {
    "seg-t1ce.dcm": (
        *("PatientID", "PatientName", "Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "BitsAllocated"),
        *("SegmentSequence", "SegmentationType", "ReferencedSeriesSequence", "SharedFunctionalGroupsSequence"),
        *("PerFrameFunctionalGroupsSequence", "PixelData"),
    ),
    "sr-measurements.dcm": ("PatientID", "PatientName", "CurrentRequestedProcedureEvidenceSequence"),
}


def test_nothing_to_check(folders, tmp_path):
    images, _ = folders
    with pytest.raises(StudyUnreadable, match="holds no SEG, SR or secondary capture"):
        check_files(images)
    with pytest.raises(StudyUnreadable, match="does not exist"):
        check_files(tmp_path / "nowhere")
