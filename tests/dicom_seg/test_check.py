from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import ImplicitVRLittleEndian, SegmentationStorage

from dicom_seg.check import check
from dicom_seg.encode import encode
from models.labels import FLAIR_HYPERINTENSITY, Role
from pipeline.result import MasksOnSeries


@pytest.fixture
def encoded(make_result, started):
    result = make_result(orientation="oblique")
    return result, encode(result, started)


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "oblique"])
def test_what_we_encode_passes(orientation, enhanced, make_result, started):
    result = make_result(orientation=orientation, enhanced=enhanced)
    assert check(encode(result, started), result) == ()


def test_an_empty_result_passes(make_result, started):
    result = make_result(np.zeros((3, 7, 13, 11), bool))
    assert check(encode(result, started), result) == ()


def swap_derivations(seg, sr):
    first, second = seg.PerFrameFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[1]
    first.DerivationImageSequence, second.DerivationImageSequence = (
        deepcopy(second.DerivationImageSequence),
        deepcopy(first.DerivationImageSequence),
    )


def empty_derivation(seg, sr):
    seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = []


def foreign_derivation(seg, sr):
    image = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "1.2.3"


def move_frame(seg, sr):
    plane = deepcopy(seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence)
    plane[0].ImagePositionPatient[1] += 0.002
    seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence = plane


def flip_a_voxel(seg, sr):
    seg.PixelData = bytes([seg.PixelData[0] ^ 1]) + seg.PixelData[1:]


def cut_pixels(seg, sr):
    seg.PixelData = seg.PixelData[:-2]


def turn(seg, sr):
    seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def widen(seg, sr):
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.25, 0.92]


def other_space(seg, sr):
    seg.FrameOfReferenceUID = "1.2.3"


def second_series(seg, sr):
    seg.ReferencedSeriesSequence.append(deepcopy(seg.ReferencedSeriesSequence[0]))


def segment_from_zero(seg, sr):
    seg.SegmentSequence[0].SegmentNumber = 0


def other_patient(seg, sr):
    seg.PatientID = "P-2"


def other_study(seg, sr):
    sr.StudyInstanceUID = "1.2.3"


def broken_uid(seg, sr):
    with disable_value_validation():
        seg.SegmentSequence[1].TrackingUID = "2.25.01"


def other_syntax(seg, sr):
    sr.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def same_instance(seg, sr):
    sr.SOPInstanceUID = sr.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID


def no_evidence(seg, sr):
    del sr.CurrentRequestedProcedureEvidenceSequence


def unknown_segment(seg, sr):
    group = sr.ContentSequence[-1].ContentSequence[0]
    for item in group.ContentSequence:
        if item.ValueType == "IMAGE":
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (swap_derivations, "does not stand where that image stands"),
        (empty_derivation, "exactly one source image"),
        (foreign_derivation, "1.2.3, which is no image of its source series"),
        (move_frame, "does not stand where that image stands"),
        (flip_a_voxel, "voxels are not those of the masks"),
        (cut_pixels, "bytes of pixels"),
        (turn, "orientation or pixel spacing"),
        (widen, "orientation or pixel spacing"),
        (other_space, "frame of reference"),
        (second_series, "2 series"),
        (segment_from_zero, "not numbered from 1"),
        (other_patient, "PatientID is not that of the source"),
        (other_study, "StudyInstanceUID is not that of the source"),
        (broken_uid, "TrackingUID"),
        (other_syntax, "Explicit VR Little Endian"),
        (same_instance, "same SOP instance UID"),
        (no_evidence, "not among its evidence"),
        (unknown_segment, "a segment that SEG"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage_is_named_without_the_patient(damage, said, encoded):
    result, objects = encoded
    (seg,) = (item.dataset for item in objects if item.sop_class_uid == SegmentationStorage)
    (sr,) = (item.dataset for item in objects if item.sop_class_uid != SegmentationStorage)
    damage(seg, sr)
    problems = check(objects, result)
    assert any(said in problem for problem in problems), problems
    assert not any("Doe" in problem or "P-1" in problem or "P-2" in problem for problem in problems)


def test_masks_of_another_result_are_noticed(encoded):
    result, objects = encoded
    problems = check(objects, replace(result, masks=result.masks[:, :, ::-1].copy()))
    assert problems == ("seg-t1ce.dcm: its voxels are not those of the masks.",)


def test_masks_on_their_own_series_are_encoded_and_checked(make_result, started):
    result = make_result(orientation="oblique")
    masks = np.random.default_rng(3).random((1, *result.source(Role.FLAIR).geometry.shape)) < 0.3
    result = replace(result, native=(MasksOnSeries(Role.FLAIR, (FLAIR_HYPERINTENSITY,), masks),))
    objects = encode(result, started)
    assert [item.file_name for item in objects] == ["seg-t1ce.dcm", "seg-flair.dcm", "sr-measurements.dcm"]
    assert check(objects, result) == ()
    other = replace(result, native=(MasksOnSeries(Role.FLAIR, (FLAIR_HYPERINTENSITY,), ~masks),))
    assert check(objects, other) == ("seg-flair.dcm: its voxels are not those of the masks.",)
