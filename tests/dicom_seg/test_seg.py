import subprocess
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.sr.coding import Code

from dicom_seg.check import check
from dicom_seg.encode import encode
from dicom_seg.seg import encode_seg
from dicom_seg.source import read_headers
from dicom_seg.write import write_dicom
from models.labels import ADC_ABNORMALITY, FLAIR_HYPERINTENSITY, LABELS, Role
from models.package import IntendedUse
from pipeline.errors import OutputRefused
from pipeline.result import MasksOnSeries

CASES = [
    ("axial", (7, 13, 11), False),
    ("sagittal", (6, 15, 9), False),
    ("oblique", (9, 11, 13), False),
    ("axial", (8, 16, 8), False),
    ("oblique", (7, 13, 11), True),
]


@pytest.fixture
def written(tmp_path, started):
    """Encode the SEG of a result and write it; gives the path."""
    counter = iter(range(1000))

    def write(result, when=started, on=None):
        on = on or result.on_t1ce()
        path = tmp_path / f"seg{next(counter)}.dcm"
        write_dicom(encode_seg(result, on, read_headers(result.source(on.role)), when), path)
        return path

    return write


def masks_by_highdicom(path, source):
    """Masks (label, slice, row, column) of a SEG on the slices of its source, as highdicom reads them."""
    seg = hd.seg.segread(path)
    read = {"segment_numbers": [1, 2, 3], "assert_missing_frames_are_empty": True}
    if source.frames[0].number == 1 and len({frame.sop_instance_uid for frame in source.frames}) > 1:
        pixels = seg.get_pixels_by_source_instance([frame.sop_instance_uid for frame in source.frames], **read)
    else:
        pixels = seg.get_pixels_by_source_frame(
            source.frames[0].sop_instance_uid, [frame.number for frame in source.frames], **read
        )
    return np.moveaxis(pixels, -1, 0).astype(bool)


def masks_by_dcmqi(command, path, source, folder):
    """The same as dcmqi reads them: its images' voxels put onto the source grid by their world coordinates."""
    folder.mkdir()
    subprocess.run(
        [command, "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd"],
        check=True,
        capture_output=True,
    )
    masks = np.zeros((3, *source.geometry.shape), bool)
    to_index = np.linalg.inv(source.geometry.affine)
    for file in folder.glob("*.nrrd"):
        image = sitk.ReadImage(str(file))
        number = int(file.stem.split("-")[-1])
        for index in np.argwhere(sitk.GetArrayFromImage(image) > 0)[:, ::-1]:
            world = image.TransformIndexToPhysicalPoint([int(value) for value in index])
            place = (to_index @ [*world, 1])[:3]
            assert np.abs(place - place.round()).max() < 1e-3
            masks[number - 1, *place.round().astype(int)] = True
    return masks


@pytest.mark.parametrize(("orientation", "shape", "enhanced"), CASES)
def test_readers_find_our_voxels_on_the_source_grid(
    orientation, shape, enhanced, make_result, written, program, tmp_path
):
    result = make_result(orientation=orientation, shape=shape, enhanced=enhanced)
    source = result.source(Role.T1CE)
    path = written(result)
    assert np.array_equal(masks_by_highdicom(path, source), result.masks)
    assert np.array_equal(masks_by_dcmqi(program("segimage2itkimage"), path, source, tmp_path / "itk"), result.masks)


@pytest.mark.parametrize(("orientation", "shape", "enhanced"), CASES)
def test_dciodvfy_finds_no_error(orientation, shape, enhanced, make_result, written, program):
    path = written(make_result(orientation=orientation, shape=shape, enhanced=enhanced))
    assert complaints(program, path) == BENIGN


BENIGN = {
    # PS3.3 C.12.1.5 has Device UID among the equipment's attributes; dicom3tools 1.00 does not know it there yet.
    "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
    "Warning - Dicom dataset contains attributes not present in standard DICOM IOD"
    " - this is a Standard Extended SOP Class",
}


def complaints(program, path):
    done = subprocess.run([program("dciodvfy"), path], capture_output=True, text=True, check=False)
    return {line.strip() for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))}


def test_dciodvfy_sees_errors_when_there_are_some(make_result, written, program):
    path = written(make_result())
    dataset = dcmread(path)
    del dataset.SegmentSequence[0].SegmentLabel
    dcmwrite(path, dataset)
    assert any(line.startswith("Error") for line in complaints(program, path))


def test_every_frame_names_the_image_that_it_stands_on(make_result, written):
    result = make_result(orientation="oblique")
    files = {
        header.SOPInstanceUID: header
        for header in (dcmread(instance.path) for instance in result.source(Role.T1CE).series.instances)
    }
    seg = dcmread(written(result))
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


def test_enhanced_source_is_referred_to_once_with_frame_numbers(make_result, written):
    result = make_result(enhanced=True)
    source = result.source(Role.T1CE)
    seg = dcmread(written(result))
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


def test_segments_describe_the_labels(make_result, written):
    result = make_result()
    seg = dcmread(written(result))
    assert seg.SegmentationType == "BINARY"
    assert seg.SegmentsOverlap == "YES"
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    types = [Code("C113842", "NCIt", ""), Code("52988006", "SCT", ""), Code("52988006", "SCT", "")]
    for segment, label, kind in zip(seg.SegmentSequence, LABELS, types, strict=True):
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
def test_bits_are_packed_without_gaps_and_padded_with_a_zero(size, make_result, written):
    # Odd frame sizes: frames begin in the middle of a byte (PS3.5 8.1.1), the rest of the last two bytes is zero.
    masks = np.ones((3, *size), bool)
    seg = dcmread(written(make_result(masks, shape=size)))
    voxels = masks.size
    assert len(seg.PixelData) == -(-voxels // 16) * 2
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    assert bits[:voxels].all()
    assert not bits[voxels:].any()


@pytest.mark.parametrize(("role", "label"), [(Role.FLAIR, FLAIR_HYPERINTENSITY), (Role.ADC, ADC_ABNORMALITY)])
def test_one_label_on_the_series_that_defines_it(role, label, make_result, written, program, tmp_path):
    result = make_result(orientation="sagittal")
    source = result.source(role)
    masks = np.random.default_rng(3).random((1, *source.geometry.shape)) < 0.3
    path = written(result, on=MasksOnSeries(role, (label,), masks))
    seg = dcmread(path)
    (segment,) = seg.SegmentSequence
    assert (segment.SegmentNumber, segment.SegmentLabel) == (1, label.title)
    on_t1ce = dcmread(written(result))
    assert segment.TrackingUID == on_t1ce.SegmentSequence[label.number - 1].TrackingUID
    assert {seg.SOPInstanceUID, seg.SeriesInstanceUID}.isdisjoint({on_t1ce.SOPInstanceUID, on_t1ce.SeriesInstanceUID})
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series.series_instance_uid
    assert role in seg.SeriesDescription
    read = masks_by_dcmqi(program("segimage2itkimage"), path, source, tmp_path / "itk")
    assert np.array_equal(read[:1], masks)
    assert complaints(program, path) == BENIGN


def test_label_without_voxels_keeps_its_segment(make_result, written, program, tmp_path):
    result = make_result()
    result.masks[1] = False
    path = written(result)
    seg = dcmread(path)
    counts = Counter(
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in seg.PerFrameFunctionalGroupsSequence
    )
    assert [counts[number] for number in (1, 2, 3)] == result.masks.any(axis=(2, 3)).sum(axis=1).tolist()
    assert len(seg.SegmentSequence) == 3
    source = result.source(Role.T1CE)
    assert np.array_equal(masks_by_highdicom(path, source), result.masks)
    assert np.array_equal(masks_by_dcmqi(program("segimage2itkimage"), path, source, tmp_path / "itk"), result.masks)
    assert complaints(program, path) == BENIGN


@pytest.mark.parametrize("enhanced", [False, True])
def test_empty_result_is_a_valid_seg_with_three_empty_segments(enhanced, make_result, written, program, tmp_path):
    result = make_result(np.zeros((3, 7, 13, 11), bool), enhanced=enhanced)
    path = written(result)
    seg = dcmread(path)
    assert seg.NumberOfFrames == 3
    assert not any(seg.PixelData)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == [label.title for label in LABELS]
    source = result.source(Role.T1CE)
    assert not masks_by_highdicom(path, source).any()
    assert not masks_by_dcmqi(program("segimage2itkimage"), path, source, tmp_path / "itk").any()
    assert complaints(program, path) == BENIGN


def test_single_voxel(make_result, written, program, tmp_path):
    masks = np.zeros((3, 7, 13, 11), bool)
    masks[0, 0, 12, 10] = True
    result = make_result(masks, orientation="sagittal")
    path = written(result)
    source = result.source(Role.T1CE)
    assert dcmread(path).NumberOfFrames == 1
    assert np.array_equal(masks_by_highdicom(path, source), masks)
    assert np.array_equal(masks_by_dcmqi(program("segimage2itkimage"), path, source, tmp_path / "itk"), masks)


def test_same_inputs_give_the_same_bytes_and_a_later_start_only_other_times(make_result, written, started):
    result = make_result()
    first, second = written(result), written(result)
    assert first.read_bytes() == second.read_bytes()
    later = dcmread(written(result, started + timedelta(days=1, minutes=3)))
    differing = {element.keyword for element in later if element != dcmread(first)[element.tag]}
    assert differing == {"ContentDate", "ContentTime", "SeriesDate", "SeriesTime"}


@pytest.mark.parametrize(
    ("name", "character_set"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        ("Müßig^Jörg", "ISO_IR 100"),
        ("Łukasz^Żółw", "ISO_IR 192"),
        ("Quill^Zoe", None),
    ],
)
def test_patient_name_survives_in_its_character_set(name, character_set, make_result, written, program, caplog):
    caplog.set_level("DEBUG")
    path = written(make_result(patient_name=name, character_set=character_set))
    seg = dcmread(path)
    assert str(seg.PatientName) == name
    assert seg.get("SpecificCharacterSet") == character_set
    assert complaints(program, path) == BENIGN
    for part in name.replace("=", "^").split("^"):
        assert part not in caplog.text


def test_patient_study_and_equipment_come_from_the_source(make_result, written, started):
    result = make_result()
    seg = dcmread(written(result))
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
    ("use", "said"),
    [(IntendedUse.DEMONSTRATION, True), (IntendedUse.RESEARCH, False), (IntendedUse.CLINICAL, False)],
)
def test_demonstration_is_called_one(use, said, make_result, written):
    seg = dcmread(written(make_result(intended_use=use)))
    for text in (seg.SeriesDescription, seg.ContentDescription):
        assert text.startswith("Demonstration only") is said
        assert ("not for clinical use" in text) is (use is not IntendedUse.CLINICAL)


@pytest.fixture
def altered(make_result):
    """A result whose T1CE files were changed by a function (header, number)."""

    def alter(change, **grid):
        result = make_result(**grid)
        with disable_value_validation():
            for number, instance in enumerate(result.source(Role.T1CE).series.instances):
                header = dcmread(instance.path)
                change(header, number)
                dcmwrite(instance.path, header)
        return result

    return alter


def test_private_storage_class_is_kept_in_references(altered, written):
    private = "1.3.46.670589.11.0.0.12.1"

    def change(header, number):
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = private

    result = altered(change)
    source = result.source(Role.T1CE)
    frames = tuple(replace(frame, sop_class_uid=private) for frame in source.frames)
    result = replace(result, sources=(*result.sources[:2], replace(source, frames=frames)))
    seg = dcmread(written(result))
    classes = {item.ReferencedSOPClassUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    classes |= {
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPClassUID
        for frame in seg.PerFrameFunctionalGroupsSequence
    }
    assert classes == {private}
    assert seg.PatientID == "P-1"


def test_one_orientation_in_many_spellings(altered, written):
    def change(header, number):
        orientation = [float(value) for value in header.ImageOrientationPatient]
        orientation[0] += number * 1e-6
        header.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]

    result = altered(change, orientation="oblique")
    assert np.array_equal(masks_by_highdicom(written(result), result.source(Role.T1CE)), result.masks)


def test_empty_thickness_and_absent_frame_of_reference(altered, written, program):
    def change(header, number):
        header.SliceThickness = None
        del header.FrameOfReferenceUID

    result = altered(change)
    path = written(result)
    seg = dcmread(path)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5
    assert seg.FrameOfReferenceUID.startswith("2.25.")
    assert complaints(program, path) == BENIGN


def test_malformed_patient_is_kept_where_it_identifies_and_never_logged(altered, started, tmp_path, caplog, recwarn):
    def change(header, number):
        header.PatientBirthDate = "born 1960"
        header.PatientAge = "66"
        header.PatientID = "I" * 70
        del header.PatientSex

    caplog.set_level("DEBUG")
    result = altered(change)
    objects = encode(result, started)
    assert check(objects, result) == ()
    for dataset in (encoded.dataset for encoded in objects):
        write_dicom(dataset, tmp_path / "written.dcm")
        with disable_value_validation():
            read = dcmread(tmp_path / "written.dcm")
            assert (read.PatientBirthDate, read.PatientID, read.PatientSex) == ("born 1960", "I" * 70, "")
        assert "PatientAge" not in read
    said = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "1960" not in said
    assert "IIII" not in said


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rotation=arrays(float, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1),
    shape=st.tuples(st.integers(2, 6), st.integers(3, 12), st.integers(3, 12)),
    filled=st.floats(0, 1),
    seed=st.integers(0, 99),
    enhanced=st.booleans(),
)
def test_round_trip_in_any_orientation(rotation, shape, filled, seed, enhanced, make_result, written):
    masks = np.random.default_rng(seed).random((3, *shape)) < filled
    result = make_result(masks, orientation=rotation_matrix(rotation), shape=shape, enhanced=enhanced)
    assert np.array_equal(masks_by_highdicom(written(result), result.source(Role.T1CE)), masks)


def rotation_matrix(quaternion):
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_vanished_source_file_is_a_refusal_that_names_the_image(make_result, written):
    result = make_result()
    gone = result.source(Role.T1CE).series.instances[3]
    gone.path.unlink()
    with pytest.raises(OutputRefused, match=gone.sop_instance_uid) as caught:
        written(result)
    assert str(gone.path.parent) not in str(caught.value)


def test_replaced_source_file_is_noticed(make_result, written):
    result = make_result()
    first, second, *_ = result.source(Role.T1CE).series.instances
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(OutputRefused, match=f"{first.sop_instance_uid} holds another image"):
        written(result)
