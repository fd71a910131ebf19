"""Files and folders become studies; other files are ignored with a reason, and damaged ones are marked."""

import time
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from pipeline.errors import StudyUnreadable
from pipeline.scan import scan
from pipeline.study import Instance, Series


def only_series(folder: Path) -> Series:
    (study,) = scan([folder]).studies
    (series,) = study.series
    return series


def test_headers_become_values(make, box):
    make.classic(
        box,
        "t1_mprage",
        EchoTime=2.5,
        RepetitionTime=2000,
        InversionTime=900,
        ContrastBolusAgent="Dotarem",
        ScanningSequence=["GR", "IR"],
        MRAcquisitionType="3D",
        AcquisitionDate="20240102",
        AcquisitionTime="101112.5",
        DiffusionBValue=1000.0,
        BodyPartExamined="HEAD",
        SeriesNumber=7,
    )
    series = only_series(make.folder)
    first = series.instances[0]
    assert (series.series_number, series.description, series.modality) == (7, "t1_mprage", "MR")
    assert (first.echo_time_ms, first.repetition_time_ms, first.inversion_time_ms) == (2.5, 2000.0, 900.0)
    assert (first.contrast_agent, first.scanning_sequence, first.acquisition_type) == ("Dotarem", ("GR", "IR"), "3D")
    assert (first.b_value, first.body_part, first.acquired_at) == (1000.0, "HEAD", "202401021011125")
    assert (first.rows, first.columns, first.number_of_frames, first.has_pixels) == (36, 40, 1, True)
    assert first.pixel_spacing_mm == (1.5, 1.25)
    assert first.position_mm == pytest.approx(box.origin_mm)
    assert len(series.instances) == 6
    assert {one.series_instance_uid for one in series.instances} == {series.series_instance_uid}


def test_a_folder_of_other_files_holds_no_study(tmp_path):
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "note.txt").write_text("a note that is longer than a preamble " * 10)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n" + bytes(200))
    found = scan([tmp_path])
    assert found.studies == ()
    assert [(one.path.name, one.reason, one.damaged) for one in found.ignored] == [
        ("empty.dcm", "an empty file", False),
        ("note.txt", "not a DICOM file", False),
        ("picture.png", "not a DICOM file", False),
    ]


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(StudyUnreadable, match="does not exist"):
        scan([tmp_path / "nowhere"])


def test_order_of_paths_and_files_does_not_matter(make, box):
    paths = make.classic(box, "a") + make.classic(box, "b")
    assert scan(paths).studies == scan(reversed(paths)).studies == scan([make.folder]).studies


def test_files_may_lie_in_any_folders_and_be_given_twice(make, box):
    paths = make.classic(box)
    deeper = make.folder / "x" / "y"
    deeper.mkdir(parents=True)
    for path in paths[::2]:
        path.rename(deeper / path.name.replace(".dcm", ""))
    found = scan([make.folder, make.folder, deeper])
    assert len(found.studies[0].series[0].instances) == 6
    assert found.ignored == ()


def test_one_object_in_two_files_counts_once(make, box):
    paths = make.classic(box)
    (make.folder / "zz_copy.dcm").write_bytes(paths[2].read_bytes())
    found = scan([make.folder])
    assert len(found.studies[0].series[0].instances) == 6
    assert [one.reason for one in found.ignored] == ["the same object as another file"]


def test_of_two_copies_the_whole_one_is_kept(make, box):
    paths = make.classic(box)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-20])
    (make.folder / "zz_copy.dcm").write_bytes(whole)
    assert all(one.has_pixels for one in only_series(make.folder).instances)


def test_studies_and_series_are_kept_apart(make, box):
    make.classic(box, "a")
    make.study = "another"
    make.classic(box, "b", first_file=100)
    make.classic(box, "c", first_file=200)
    assert sorted(len(study.series) for study in scan([make.folder]).studies) == [1, 2]


@pytest.mark.parametrize("kept", [0.95, 0.7])
def test_missing_pixels_are_noticed(make, box, kept):
    path = make.classic(box)[3]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert [one.has_pixels for one in only_series(make.folder).instances] == [True] * 3 + [False] + [True] * 2


def test_a_header_cut_before_its_uids_is_damaged(make, box):
    path = make.classic(box)[3]
    path.write_bytes(path.read_bytes()[:420])
    found = scan([make.folder])
    assert [(one.path, one.damaged) for one in found.ignored] == [(path, True)]
    assert "SECRET" not in found.ignored[0].reason


def test_a_header_without_pixels_is_noticed(make, box):
    make.classic(box, change=lambda dataset, number: dataset.pop("PixelData") if number == 1 else None)
    assert [one.has_pixels for one in only_series(make.folder).instances] == [True, False, True, True, True, True]


def test_pixels_shorter_than_rows_and_columns_are_noticed(make, box):
    def halve(dataset: Dataset, number: int) -> None:
        if number == 1:
            dataset.PixelData = dataset.PixelData[:800]

    make.classic(box, change=halve)
    assert [one.has_pixels for one in only_series(make.folder).instances] == [True, False, True, True, True, True]


def test_truncated_compressed_pixels_are_noticed(make, box):
    make.syntax = RLELossless
    paths = make.classic(box)
    assert all(one.has_pixels for one in only_series(make.folder).instances)
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    assert [one.has_pixels for one in only_series(make.folder).instances].count(False) == 1


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_uncompressed_syntax_reads_the_same(make, box, syntax):
    make.syntax = syntax
    make.classic(box, EchoTime=81.5)
    first = only_series(make.folder).instances[0]
    assert (first.transfer_syntax_uid, first.echo_time_ms, first.has_pixels) == (syntax, 81.5, True)
    assert first.position_mm == pytest.approx(box.origin_mm)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_dicom_without_a_preamble_is_read(make, box, syntax):
    dataset = pydicom.dcmread(make.classic(box)[0])
    for path in make.folder.iterdir():
        path.unlink()
    del dataset.file_meta
    dataset.save_as(make.folder / "bare", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    (first,) = only_series(make.folder).instances
    assert (first.transfer_syntax_uid, first.has_pixels, first.rows) == (syntax, True, 36)


def test_malformed_values_read_as_absent(make, box):
    for path in make.classic(box, EchoTime="81.25", RepetitionTime="12.5", InversionTime="17.25"):
        content = path.read_bytes()
        for good, bad in ((b"81.25", b"8a.25"), (b"12.5", b"nan "), (b"17.25", b"1e999"), (b"1.5000", b"1,5000")):
            content = content.replace(good, bad)
        path.write_bytes(content)
    first: Instance = only_series(make.folder).instances[0]
    assert (first.echo_time_ms, first.repetition_time_ms, first.inversion_time_ms) == (None, None, None)
    assert first.pixel_spacing_mm is None


def test_descriptions_in_other_character_sets(make, box):
    make.classic(box, "T1 nach Kontrastmittelgäbe", SpecificCharacterSet="ISO_IR 192")
    assert only_series(make.folder).description == "T1 nach Kontrastmittelgäbe"


def test_a_leading_space_of_a_description_is_kept(make, box):
    make.classic(box, SeriesDescription=" SAG T2")
    assert only_series(make.folder).description == " SAG T2"


@pytest.mark.parametrize("odd", ["", "   ", "another text"])
@pytest.mark.parametrize("order", [1, -1])
def test_series_values_are_those_of_most_images(make, box, odd, order):
    """One image with blank or other values, whatever the order of files, does not speak for its series."""

    def change(dataset: Dataset, number: int) -> None:
        if number == 0:
            dataset.SeriesDescription = dataset.ProtocolName = dataset.Manufacturer = odd
            dataset.SeriesNumber = 900 if odd.strip() else None
            dataset.Modality = "CT" if odd.strip() else ""

    paths = make.classic(box, "T1 KM", ProtocolName="t1_km", change=change, SeriesNumber=7)
    (study,) = scan(paths[::order]).studies
    (series,) = study.series
    assert (series.description, series.protocol_name, series.series_number) == ("T1 KM", "t1_km", 7)
    assert (series.modality, series.manufacturer) == ("MR", "TEST")


def test_a_blank_value_never_wins_and_the_first_image_breaks_ties(make, box):
    def change(dataset: Dataset, number: int) -> None:
        dataset.SeriesDescription = "" if number < 4 else f"said by image {number}"

    paths = make.classic(box, change=change, numbers=(6, 5, 4, 3, 2, 1))
    for order in (1, -1):
        (study,) = scan(paths[::order]).studies
        assert study.series[0].description == "said by image 5"  # its instance number, 1, is the lower one


def test_the_modality_of_mr_images_without_one(make, box):
    make.classic(box, Modality="")
    assert only_series(make.folder).modality == "MR"


def test_an_enhanced_image_has_the_values_of_its_first_frame(make, box):
    make.enhanced(box)
    (image,) = only_series(make.folder).instances
    assert image.number_of_frames == len(image.frames) == 6
    assert image.pixel_spacing_mm == (1.5, 1.25)
    assert image.orientation == pytest.approx((1, 0, 0, 0, 1, 0))
    assert image.frames[0].position_mm == pytest.approx(box.origin_mm)


def test_a_media_directory_is_no_image(make, box):
    def as_directory(dataset: Dataset, number: int) -> None:
        dataset.SOPClassUID = MediaStorageDirectoryStorage

    make.classic(box, change=as_directory)
    found = scan([make.folder])
    assert found.studies == ()
    assert all("DICOMDIR" in one.reason for one in found.ignored)


def test_reasons_hold_no_patient_data(make, box):
    for number, path in enumerate(make.classic(box)):
        content = path.read_bytes()
        path.write_bytes(content[: 200 + 60 * number])
    assert not any("SECRET" in one.reason or "NOBODY" in one.reason for one in scan([make.folder]).ignored)


def test_hundreds_of_headers_are_read_in_a_moment(shared_data):
    folder = shared_data / "semireal" / "siemens-unifocal" / "dicom"
    scan([folder])
    started = time.perf_counter()
    (study,) = scan([folder]).studies
    assert sum(len(series.instances) for series in study.series) == 404
    # A third of a second on an idle machine; the bound leaves room for a busy one.
    assert time.perf_counter() - started < 4
