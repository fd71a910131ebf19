"""What an object is to the one that came before it under the same UIDs."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from plugin.archive.compare_instances import Comparison, Kind, compare_instances, name_tags
from plugin.archive.file_meta import encode_file_meta
from tests.support.hostile_dicom import encoded
from tests.support.node import make_instance, write_instance

ENCODING = 0x00020010
Change = Callable[[Dataset], object]


def image() -> Dataset:
    """Return an image with a place and a scale, and values of which a lossy encoding changes some."""
    made = make_instance("1.2.3")
    made.PatientBirthDate, made.PatientSex, made.AccessionNumber = "19500102", "F", "A-1"
    made.ImagePositionPatient, made.ImageOrientationPatient = [-12.5, 3, 40.25], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.FrameOfReferenceUID = [0.9, 0.9], "1.2.3.9"
    made.Rows = made.Columns = 32
    made.BitsStored, made.HighBit = 12, 11
    made.PixelData = np.random.default_rng(1).integers(0, 4096, (32, 32)).astype("<u2").tobytes()
    return made


def compare(first: Dataset, second: Dataset, folder: Path) -> Comparison:
    return compare_instances(write_instance(first, folder / "first"), write_instance(second, folder / "second"))


def changed(change: Change) -> Dataset:
    made = image()
    change(made)
    return made


def write_native(instance: Dataset, syntax: str, path: Path) -> Path:
    head = encode_file_meta(instance.SOPClassUID, instance.SOPInstanceUID, syntax)
    path.write_bytes(head + encoded(instance, syntax))
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_another_uncompressed_encoding_is_the_same_image(syntax: str, tmp_path: Path) -> None:
    first = image()
    second = deepcopy(first)
    if syntax == ExplicitVRBigEndian:
        second.PixelData = np.frombuffer(first.PixelData, "<u2").astype(">u2").tobytes()
    found = compare_instances(write_instance(first, tmp_path), write_native(second, syntax, tmp_path / "second"))
    assert found == Comparison(Kind.SAME_IMAGE, (ENCODING,))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_lossless_encoding_is_the_same_image(syntax: str, tmp_path: Path) -> None:
    first = image()
    second = deepcopy(first)
    second.compress(syntax, generate_instance_uid=False)
    assert compare(first, second, tmp_path) == Comparison(Kind.SAME_IMAGE, (ENCODING,))
    assert compare(second, first, tmp_path / "back") == Comparison(Kind.SAME_IMAGE, (ENCODING,))


def test_signed_values_and_several_frames_are_compared_in_any_encoding(tmp_path: Path) -> None:
    first = image()
    values = np.random.default_rng(2).integers(-500, 500, (3, 32, 32)).astype("<i2")
    first.NumberOfFrames, first.PixelRepresentation, first.BitsStored, first.HighBit = 3, 1, 16, 15
    first.PixelData = values.tobytes()
    same, other = deepcopy(first), deepcopy(first)
    values[2, 5, 5] += 1
    other.PixelData = values.tobytes()
    for each in (same, other):
        each.compress(RLELossless, generate_instance_uid=False)
    assert compare(first, same, tmp_path).kind is Kind.SAME_IMAGE
    assert compare(first, other, tmp_path / "other") == Comparison(Kind.OTHER_IMAGE, (ENCODING,), "other pixels")


def test_lossy_pixels_are_other_pixels(tmp_path: Path) -> None:
    first = image()
    second = deepcopy(first)
    second.compress(JPEGLSNearLossless, jls_error=3, generate_instance_uid=False)
    assert compare(first, second, tmp_path).why == "other pixels"


def add_private(instance: Dataset) -> None:
    instance.private_block(0x0011, "ROUTER", create=True).add_new(1, "LO", "x")


@pytest.mark.parametrize(
    ("change", "tags"),
    [
        (lambda image: setattr(image, "InstitutionName", "Elsewhere"), (0x00080080,)),
        (lambda image: setattr(image, "StationName", "ROUTER"), (0x00081010,)),
        (lambda image: setattr(image, "StudyDescription", "Head"), (0x00081030,)),
        (lambda image: setattr(image, "IssuerOfPatientID", "ROUTER"), (0x00100021,)),
        (lambda image: setattr(image, "SpecificCharacterSet", "ISO_IR 192"), (0x00080005,)),
        (lambda image: setattr(image, "PatientName", f"{image.PatientName}^^^"), (0x00100010,)),
        (lambda image: setattr(image, "PatientName", str(image.PatientName).swapcase()), (0x00100010,)),
        (lambda image: setattr(image, "PatientName", "MARKER?xPHI^NAME"), (0x00100010,)),
        (lambda image: delattr(image, "PatientBirthDate"), (0x00100030,)),
        (lambda image: setattr(image, "RescaleSlope", 1), (0x00281053,)),
        (lambda image: setattr(image, "ImagePositionPatient", ["-12.50001", "3.0", "40.25"]), (0x00200032,)),
        (lambda image: setattr(image.ReferencedStudySequence[0], "StudyInstanceUID", "1.9"), (0x00081110,)),
        (add_private, (0x00110010, 0x00111001)),
    ],
)
def test_coerced_and_added_elements_are_named_and_change_nothing(
    change: Change, tags: tuple[int, ...], tmp_path: Path
) -> None:
    first = image()
    second = deepcopy(first)
    change(second)
    assert compare(first, second, tmp_path) == Comparison(Kind.SAME_IMAGE, tags)


def test_private_sequences_and_padding_do_not_differ_by_encoding(tmp_path: Path) -> None:
    first = image()
    inner = Dataset()
    inner.PatientComments = "x"
    first.private_block(0x0011, "VENDOR", create=True).add_new(1, "SQ", [inner])
    first.PatientComments = "odd"
    path = write_native(first, ImplicitVRLittleEndian, tmp_path / "implicit")
    assert compare_instances(write_instance(first, tmp_path), path).tags == (ENCODING,)


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        (lambda image: setattr(image, "PatientID", "CORRECTED-1"), 0x00100020),
        (lambda image: setattr(image, "PatientName", "CORRECTED^NAME"), 0x00100010),
        (lambda image: setattr(image, "PatientBirthDate", "19500201"), 0x00100030),
        (lambda image: setattr(image, "PatientSex", "M"), 0x00100040),
        (lambda image: setattr(image, "AccessionNumber", "A-2"), 0x00080050),
    ],
)
def test_corrected_demographics_are_another_patient(change: Change, tag: int, tmp_path: Path) -> None:
    first = image()
    second = deepcopy(first)
    change(second)
    assert compare(first, second, tmp_path) == Comparison(Kind.OTHER_PATIENT, (tag,))
    second.compress(RLELossless, generate_instance_uid=False)
    assert compare(first, second, tmp_path / "rle") == Comparison(Kind.OTHER_PATIENT, (ENCODING, tag))


def test_a_patient_that_is_filled_in_is_a_correction_and_one_that_is_removed_is_none(tmp_path: Path) -> None:
    named, nameless = image(), None
    nameless = deepcopy(named)
    nameless.PatientID = nameless.PatientName = nameless.AccessionNumber = nameless.PatientBirthDate = ""
    assert compare(nameless, named, tmp_path).kind is Kind.OTHER_PATIENT
    assert compare(named, nameless, tmp_path / "removed").kind is Kind.SAME_IMAGE
    nameless.PatientID, nameless.PatientIdentityRemoved = "ANONYMOUS", "YES"
    assert compare(named, nameless, tmp_path / "anonymised").kind is Kind.SAME_IMAGE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda image: setattr(image, "PixelData", bytes(2) + image.PixelData[2:]), "other pixels"),
        (lambda image: setattr(image, "PhotometricInterpretation", "MONOCHROME1"), "other pixels"),
        (lambda image: setattr(image, "Rows", 16), "other pixels"),
        (lambda image: setattr(image, "PixelData", image.PixelData[:-2]), "pixels cut short"),
        (lambda image: setattr(image, "ImagePositionPatient", [-12.5, 3, 41]), "another place or scale of the pixels"),
        (lambda image: setattr(image, "FrameOfReferenceUID", "1.2.3.8"), "another place or scale of the pixels"),
        (lambda image: setattr(image, "RescaleSlope", 0.001), "another place or scale of the pixels"),
        (lambda image: setattr(image, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "another SOP class"),
    ],
)
@pytest.mark.parametrize("patient", ["", "CORRECTED-1"])
def test_another_image_is_one_whoever_its_patient_is(change: Change, why: str, patient: str, tmp_path: Path) -> None:
    first = image()
    second = deepcopy(first)
    change(second)
    second.PatientID = patient or second.PatientID
    if "cut" in why:  # pydicom would write the length that there is
        path = write_instance(first, tmp_path / "second")
        path.write_bytes(path.read_bytes()[:-2])
        found = compare_instances(write_instance(first, tmp_path), path)
    else:
        found = compare(first, second, tmp_path)
    assert (found.kind, found.why) == (Kind.OTHER_IMAGE, why)


def test_an_image_whose_first_copy_was_cut_short_may_come_whole(tmp_path: Path) -> None:
    whole = image()
    path = write_instance(whole, tmp_path / "second")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-101])
    assert compare_instances(cut, path).kind is Kind.FIRST_UNREADABLE
    other = changed(lambda image: setattr(image, "PixelData", bytes(2) + image.PixelData[2:]))
    other.SOPInstanceUID = whole.SOPInstanceUID
    assert compare_instances(cut, write_instance(other, tmp_path / "other")).kind is Kind.OTHER_IMAGE
    whole.PatientID = "CORRECTED-1"
    assert compare_instances(cut, write_instance(whole, tmp_path / "patient")).kind is Kind.OTHER_IMAGE


def test_an_image_whose_first_copy_cannot_be_decoded_may_come_in_another_encoding(tmp_path: Path) -> None:
    whole = image()
    broken = deepcopy(whole)
    broken.compress(JPEG2000Lossless, generate_instance_uid=False)
    path = write_instance(broken, tmp_path)
    content = path.read_bytes()
    place = content.index(b"\xff\x4f\xff\x51") + 60
    path.write_bytes(content[:place] + bytes(200) + content[place + 200 :])
    assert compare_instances(path, write_instance(whole, tmp_path / "whole")).kind is Kind.FIRST_UNREADABLE
    found = compare_instances(write_instance(whole, tmp_path / "whole"), path)
    assert (found.kind, found.why) == (Kind.OTHER_IMAGE, "pixels that cannot be decoded")


def test_frames_of_an_enhanced_image_have_a_place(tmp_path: Path) -> None:
    first = image()
    position, group = Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, 5]
    group.PlanePositionSequence = [position]
    first.PerFrameFunctionalGroupsSequence = [group]
    second = deepcopy(first)
    assert compare(first, second, tmp_path).kind is Kind.SAME_IMAGE
    second.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 6]
    assert compare(first, second, tmp_path / "other").why == "another place or scale of the pixels"


def test_objects_without_pixels_are_compared_by_their_content(tmp_path: Path) -> None:
    first = make_instance("1.2.3", sop_class="1.2.840.10008.5.1.4.1.1.88.22")
    del first.PixelData
    second, other, corrected = deepcopy(first), deepcopy(first), deepcopy(first)
    path = write_native(second, ImplicitVRLittleEndian, tmp_path / "implicit")
    assert compare_instances(write_instance(first, tmp_path), path).kind is Kind.SAME_IMAGE
    other.PatientComments = "another content"
    assert compare(first, other, tmp_path).why == "another content: (0010,4000)"
    corrected.PatientID = "CORRECTED-1"
    assert compare(first, corrected, tmp_path).kind is Kind.OTHER_PATIENT


def test_damage_is_another_image(tmp_path: Path) -> None:
    first = write_instance(image(), tmp_path)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(first.read_bytes()[:300] + b"\xff" * 400)
    assert compare_instances(first, damaged).kind is Kind.OTHER_IMAGE


def test_few_tags_are_named() -> None:
    assert name_tags((0x00100010, 0x00100020)) == "(0010,0010), (0010,0020)"
    assert name_tags(tuple(range(0x00280000, 0x00280014))).endswith(" and 8 more")
