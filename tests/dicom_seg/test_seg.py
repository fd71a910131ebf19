from dataclasses import replace
from datetime import timedelta

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.sr.coding import Code

from dicom_seg.check import check
from dicom_seg.encode import Outputs, encode
from dicom_seg.write import write_dicom
from models.labels import PAPER_LABELS, Role
from models.package import IntendedUse
from pipeline.errors import OutputRefused
from tests.support.seg_readers import BENIGN, complaints


def test_dciodvfy_reports_existing_errors(make_result, write_seg, program):
    path = write_seg(make_result())
    dataset = dcmread(path)
    del dataset.SegmentSequence[0].SegmentLabel
    dcmwrite(path, dataset)
    assert any(line.startswith("Error") for line in complaints(program, path))


def test_every_frame_refers_to_its_source_image(make_result, write_seg):
    result = make_result(orientation="oblique")
    files = {
        header.SOPInstanceUID: header
        for header in (dcmread(instance.path) for instance in result.source(Role.T1CE).series.instances)
    }
    seg = dcmread(write_seg(result))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        source = files[image.ReferencedSOPInstanceUID]
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        assert "ReferencedFrameNumber" not in image
        assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert shared.PixelMeasuresSequence[0].SpacingBetweenSlices == 2.5
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == set(files)


def test_enhanced_source_is_referred_to_once_with_frame_numbers(make_result, write_seg):
    result = make_result(enhanced=True)
    source = result.source(Role.T1CE)
    seg = dcmread(write_seg(result))
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    header = dcmread(source.series.instances[0].path)
    numbers = {frame.number for frame in source.frames}
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedFrameNumber in numbers
        groups = header.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        assert (
            frame.PlanePositionSequence[0].ImagePositionPatient == groups.PlanePositionSequence[0].ImagePositionPatient
        )


def test_segments_describe_the_labels(make_result, write_seg):
    result = make_result()
    seg = dcmread(write_seg(result))
    assert seg.SegmentationType == "BINARY"
    assert seg.SegmentsOverlap == "YES"
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    types = [Code("C113842", "NCIt", ""), Code("52988006", "SCT", ""), Code("52988006", "SCT", "")]
    for segment, label, kind in zip(seg.SegmentSequence, PAPER_LABELS, types, strict=True):
        assert (segment.SegmentNumber, segment.SegmentLabel) == (label.number, label.title)
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantom-demo", "0.1.0")
        assert "intended_use=demonstration" in algorithm.AlgorithmParameters
        coded = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (coded.CodeValue, coded.CodingSchemeDesignator) == (kind.value, kind.scheme_designator)
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
        colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb(clip=True)
        assert np.abs(np.array(colour) - label.colour_rgb).max() <= 2
    assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == 3


@pytest.mark.parametrize("size", [(5, 7, 9), (5, 9, 11), (6, 7, 15)])
def test_bits_are_packed_without_gaps_and_padded_with_a_zero(size, make_result, write_seg):
    # Odd frame sizes: frames begin in the middle of a byte (PS3.5 8.1.1), the rest of the last two bytes is zero.
    masks = np.ones((3, *size), bool)
    seg = dcmread(write_seg(make_result(masks, shape=size)))
    voxels = masks.size
    assert len(seg.PixelData) == -(-voxels // 16) * 2
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    assert bits[:voxels].all()
    assert not bits[voxels:].any()


def test_same_inputs_give_the_same_bytes_and_a_later_start_only_other_times_and_uids(make_result, write_seg, started):
    result = make_result()
    first, second = write_seg(result), write_seg(result)
    assert first.read_bytes() == second.read_bytes()
    later = dcmread(write_seg(result, started + timedelta(days=1, minutes=3)))
    differing = {element.keyword for element in later if element != dcmread(first)[element.tag]}
    uids = {"SOPInstanceUID", "SeriesInstanceUID"}
    assert differing == {"ContentDate", "ContentTime", "SeriesDate", "SeriesTime", *uids}


@pytest.mark.parametrize(
    ("name", "character_set", "encoding"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], "iso2022_jp"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192", "utf-8"),
        ("Müßig^Jörg", "ISO_IR 100", "latin-1"),
        ("Łukasz^Żółw", "ISO_IR 192", "utf-8"),
        ("Quill^Zoe", None, "ascii"),
    ],
)
def test_patient_name_survives_in_its_character_set(
    name, character_set, encoding, make_result, write_seg, program, caplog
):
    caplog.set_level("DEBUG")
    result = make_result(patient_name=name, character_set=character_set)
    path = write_seg(result)
    seg = dcmread(path)
    assert str(seg.PatientName) == name
    assert seg.get("SpecificCharacterSet") == character_set
    stored = name_as_stored(path)
    assert stored == name_as_stored(result.source(Role.T1CE).series.instances[0].path)
    for part in name.replace("=", "^").split("^"):
        assert part.encode(encoding) in stored
    assert complaints(program, path) == BENIGN
    for part in name.replace("=", "^").split("^"):
        assert part not in caplog.text


def name_as_stored(path):
    """The bytes of (0010,0010) by position in the file: Explicit VR PN has a length of two bytes."""
    content = path.read_bytes()
    start = content.index(b"\x10\x00\x10\x00PN")
    return content[start + 8 : start + 8 + int.from_bytes(content[start + 6 : start + 8], "little")]


def test_patient_study_and_equipment_come_from_the_source(make_result, write_seg, started):
    result = make_result()
    seg = dcmread(write_seg(result))
    source = dcmread(result.source(Role.T1CE).series.instances[0].path)
    for keyword in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
        *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
        "ReferringPhysicianName",
    ):
        assert seg[keyword] == source[keyword], keyword
    assert (seg.Modality, seg.Manufacturer) == ("SEG", "glionode")
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    scanner, algorithm, _highdicom = seg.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("SIEMENS", "Skyra")
    assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert algorithm.DeviceUID.startswith("2.25.")
    assert (seg.ContentDate, seg.ContentTime) == (f"{started:%Y%m%d}", f"{started:%H%M%S.%f}")


@pytest.mark.parametrize(
    ("use", "stated"),
    [(IntendedUse.DEMONSTRATION, True), (IntendedUse.RESEARCH, False), (IntendedUse.CLINICAL, False)],
)
def test_limited_intended_use_is_stated(use, stated, make_result, write_seg):
    seg = dcmread(write_seg(make_result(intended_use=use)))
    for text in (seg.SeriesDescription, seg.ContentDescription):
        assert text.startswith("Demonstration only") is stated
        assert ("not for clinical use" in text) is (use is not IntendedUse.CLINICAL)


def test_private_storage_class_is_kept_in_references(make_altered, write_seg):
    private = "1.3.46.670589.11.0.0.12.1"

    def change(header, number):
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = private

    result = make_altered(change)
    source = result.source(Role.T1CE)
    frames = tuple(replace(frame, sop_class_uid=private) for frame in source.frames)
    result = replace(result, sources=(*result.sources[:2], replace(source, frames=frames)))
    seg = dcmread(write_seg(result))
    classes = {item.ReferencedSOPClassUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    classes |= {
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert classes == {private}
    assert seg.PatientID == "P-1"


def test_empty_thickness_and_absent_frame_of_reference(make_altered, write_seg, program):
    def change(header, number):
        header.SliceThickness = None
        del header.FrameOfReferenceUID

    result = make_altered(change)
    path = write_seg(result)
    seg = dcmread(path)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5
    assert seg.FrameOfReferenceUID.startswith("2.25.")
    assert complaints(program, path) == BENIGN


def test_a_patient_without_id_has_an_empty_one(make_altered, write_seg, program):
    def change(header, number):
        del header.PatientID

    path = write_seg(make_altered(change))
    assert dcmread(path).PatientID == ""  # type 2: there, and empty
    needed = "Warning - Missing attribute or value that would be needed to build DICOMDIR - Patient ID"
    assert complaints(program, path) == {*BENIGN, needed}


def test_malformed_patient_is_kept_where_it_identifies_and_never_logged(
    make_altered, started, tmp_path, caplog, recwarn
):
    def change(header, number):
        header.PatientBirthDate = "born 1960"
        header.PatientAge = "66"
        header.PatientID = "I" * 70
        del header.PatientSex

    caplog.set_level("DEBUG")
    result = make_altered(change)
    objects = encode(result, started, Outputs())
    assert check(objects, result) == ()
    for dataset in (encoded.dataset for encoded in objects):
        write_dicom(dataset, tmp_path / "written.dcm")
        with disable_value_validation():
            read = dcmread(tmp_path / "written.dcm")
            assert (read.PatientBirthDate, read.PatientID, read.PatientSex) == ("born 1960", "I" * 70, "")
        assert "PatientAge" not in read
    logged = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "1960" not in logged
    assert "IIII" not in logged


def test_a_missing_source_file_is_an_error_that_names_the_image(make_result, write_seg):
    result = make_result()
    missing = result.source(Role.T1CE).series.instances[3]
    missing.path.unlink()
    with pytest.raises(OutputRefused, match=missing.sop_instance_uid) as caught:
        write_seg(result)
    assert str(missing.path.parent) not in str(caught.value)


def test_a_replaced_source_file_is_an_error(make_result, write_seg):
    result = make_result()
    first, second, *_ = result.source(Role.T1CE).series.instances
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(OutputRefused, match=f"{first.sop_instance_uid} holds another image"):
        write_seg(result)
