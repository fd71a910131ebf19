import subprocess
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_seg.capture import encode_capture
from dicom_seg.picture import draw_pictures
from dicom_seg.source_headers import read_headers
from dicom_seg.write import write_dicom
from models.labels import Role
from models.package import IntendedUse
from pipeline.result import Panels

INDICES = (1, 3, 4)
CASES = [
    ("axial", (7, 13, 11), False),
    ("sagittal", (6, 15, 9), False),
    ("oblique", (7, 13, 11), True),
]


@pytest.fixture
def pictured(make_result):
    """A result with panels of random voxels, some of them missing."""

    def make(*masks, **options):
        result = make_result(*masks, **options)
        shape = (3, len(INDICES), *result.masks.shape[2:])
        pixels = np.random.default_rng(8).uniform(0, 2000, shape).astype(np.float32)
        pixels[1, :, :, -3:] = np.nan
        return replace(result, panels=Panels(INDICES, (Role.T1CE, Role.FLAIR, Role.ADC), pixels))

    return make


@pytest.fixture
def written(tmp_path, started):
    """Encode the capture of a result and write it; gives the paths."""
    counter = iter(range(1000))

    def write(result, when=started):
        folder = tmp_path / f"capture{next(counter)}"
        folder.mkdir()
        datasets = encode_capture(result, read_headers(result.source(Role.T1CE)), when)
        paths = [folder / f"{number}.dcm" for number in range(1, len(datasets) + 1)]
        for dataset, path in zip(datasets, paths, strict=True):
            write_dicom(dataset, path)
        return paths

    return write


def errors(program, *paths):
    done = subprocess.run([program, *paths], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize(("orientation", "shape", "enhanced"), CASES)
def test_dcmtk_decodes_the_pictures_that_were_drawn(orientation, shape, enhanced, pictured, written, program, tmp_path):
    result = pictured(orientation=orientation, shape=shape, enhanced=enhanced)
    paths = written(result)
    assert len(paths) == len(INDICES)
    for path, drawn in zip(paths, draw_pictures(result, result.panels), strict=True):
        decoded = tmp_path / "decoded.ppm"
        subprocess.run([program("dcm2pnm"), "--write-raw-pnm", path, decoded], check=True, capture_output=True)
        with Image.open(decoded) as picture:
            assert np.array_equal(np.asarray(picture.convert("RGB")), drawn)


@pytest.mark.parametrize(("orientation", "shape", "enhanced"), CASES)
def test_dicom3tools_find_no_error(orientation, shape, enhanced, pictured, written, program):
    result = pictured(orientation=orientation, shape=shape, enhanced=enhanced)
    paths = written(result)
    for path in paths:
        assert errors(program("dciodvfy"), path) == []
    sources = [instance.path for source in result.sources for instance in source.series.instances]
    assert errors(program("dcentvfy"), *sources, *paths) == []


def test_dicom3tools_report_existing_errors(pictured, written, program):
    result = pictured()
    path, *_ = written(result)
    dataset = dcmread(path)
    dataset.PatientBirthDate = "19610101"
    del dataset.ConversionType
    dcmwrite(path, dataset)
    assert any("ConversionType" in line for line in errors(program("dciodvfy"), path))
    assert errors(program("dcentvfy"), result.source(Role.T1CE).series.instances[0].path, path) != []


def test_each_image_names_the_slice_that_it_shows(pictured, written):
    result = pictured(orientation="oblique")
    for path, index in zip(written(result), INDICES, strict=True):
        (source,) = dcmread(path).SourceImageSequence
        frame = result.source(Role.T1CE).frames[index]
        assert source.ReferencedSOPInstanceUID == frame.sop_instance_uid
        assert source.ReferencedSOPClassUID == frame.sop_class_uid
        assert "ReferencedFrameNumber" not in source
        assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"  # CID 7202


def test_images_of_an_enhanced_source_name_its_frame(pictured, written):
    result = pictured(enhanced=True)
    for path, index in zip(written(result), INDICES, strict=True):
        (source,) = dcmread(path).SourceImageSequence
        frame = result.source(Role.T1CE).frames[index]
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (frame.sop_instance_uid, frame.number)


def test_one_series_of_single_colour_images_in_slice_order(pictured, written):
    images = [dcmread(path) for path in written(pictured())]
    assert [image.InstanceNumber for image in images] == [1, 2, 3]
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == 3
    for image in images:
        assert image.SOPClassUID == SecondaryCaptureImageStorage
        assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (image.Modality, image.SeriesNumber, image.ConversionType) == ("OT", 8006, "WSD")
        assert list(image.ImageType) == ["DERIVED", "SECONDARY"]
        assert (image.PhotometricInterpretation, image.SamplesPerPixel, image.BitsAllocated) == ("RGB", 3, 8)
        assert image.BurnedInAnnotation == "NO"
        assert "PixelSpacing" not in image
        assert len(image.PixelData) == image.Rows * image.Columns * 3 + image.Rows * image.Columns % 2


@pytest.mark.parametrize(
    ("orientation", "directions"),
    # PS3.3 C.7.6.1.1.1: along the rows, then down the columns.
    [("axial", ["L", "P"]), ("sagittal", ["P", "F"])],
)
def test_patient_orientation_is_that_of_the_slices(orientation, directions, pictured, written):
    for path in written(pictured(orientation=orientation)):
        assert list(dcmread(path).PatientOrientation) == directions


def test_patient_study_and_equipment(pictured, written, started):
    result = pictured()
    source = dcmread(result.source(Role.T1CE).series.instances[0].path)
    for path in written(result):
        image = dcmread(path)
        for keyword in (
            *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
            *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
        ):
            assert image[keyword] == source[keyword], keyword
        assert image.Manufacturer == "glionode"
        scanner, algorithm, _highdicom = image.ContributingEquipmentSequence
        assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("SIEMENS", "Skyra")
        assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert algorithm.DeviceUID.startswith("2.25.")
        when = (f"{started:%Y%m%d}", f"{started:%H%M%S.%f}")
        assert (image.ContentDate, image.ContentTime) == when
        assert (image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture) == when


@pytest.mark.parametrize(
    ("name", "character_set"),
    [("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]), ("Müßig^Jörg", "ISO_IR 100")],
)
def test_patient_name_survives_in_its_character_set(name, character_set, pictured, written, program):
    path, *_ = written(pictured(patient_name=name, character_set=character_set))
    assert str(dcmread(path).PatientName) == name
    assert errors(program("dciodvfy"), path) == []


def test_same_inputs_give_the_same_bytes_and_a_later_start_only_other_times_and_uids(pictured, written, started):
    result = pictured()
    first, second = written(result), written(result)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    later = dcmread(written(result, started + timedelta(days=1, minutes=3))[0])
    differing = {element.keyword for element in later if element != dcmread(first[0])[element.tag]}
    moments = {"Content", "Series"}
    assert differing == {f"{kind}{part}" for kind in moments for part in ("Date", "Time")} | {
        *("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
        *("SOPInstanceUID", "SeriesInstanceUID"),
    }


@pytest.mark.parametrize(
    ("use", "stated"),
    [(IntendedUse.DEMONSTRATION, True), (IntendedUse.RESEARCH, False), (IntendedUse.CLINICAL, False)],
)
def test_limited_intended_use_is_stated(use, stated, pictured, written):
    image = dcmread(written(pictured(intended_use=use))[0])
    assert image.SeriesDescription.startswith("Demonstration only") is stated
    assert ("not for clinical use" in image.DerivationDescription) is (use is not IntendedUse.CLINICAL)


def test_lossy_sources_make_lossy_captures(pictured, written):
    result = pictured()
    for instance in result.source(Role.T1CE).series.instances:
        header = dcmread(instance.path)
        header.LossyImageCompression, header.LossyImageCompressionRatio = "01", "8.5"
        dcmwrite(instance.path, header)
    image = dcmread(written(result)[0])
    assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 8.5)


def test_an_empty_result_is_captured_too(pictured, written, program):
    paths = written(pictured(np.zeros((3, 7, 13, 11), bool)))
    assert len(paths) == len(INDICES)
    for path in paths:
        assert errors(program("dciodvfy"), path) == []


def test_without_panels_there_is_no_capture(make_result, written):
    assert written(make_result()) == []
