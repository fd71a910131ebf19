"""Series are read with the right geometry, values and units; irregular ones are refused with their own error."""

import math
import re
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from models.labels import Role
from pipeline.errors import (
    ColourImages,
    FramesOfReferenceDiffer,
    GantryShear,
    IrregularSlices,
    MixedOrientations,
    MosaicImages,
    PixelsMissing,
    PixelsUndecodable,
    PlaceUnknown,
    RepeatedPositions,
    SeriesUnreadable,
    SlicesMissing,
    StrayImage,
    TooFewSlices,
    UnitsUnknown,
)
from pipeline.read import read_volume
from pipeline.remarks import RemarkKind
from pipeline.scan import scan
from pipeline.study import Series
from pipeline.volume import Geometry, Volume

PADDING = 0x00280120


def only_series(folder) -> Series:
    (study,) = scan([folder]).studies
    (series,) = study.series
    return series


def real_world(unit: str, slope: float, first: int = 0, last: int = 32767) -> Dataset:
    """Return an item of RealWorldValueMappingSequence."""
    code, mapping = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    mapping.add_new(0x00409216, "SS" if first < 0 else "US", first)
    mapping.add_new(0x00409211, "SS" if first < 0 else "US", last)
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
    mapping.LUTExplanation, mapping.LUTLabel = "ADC", "ADC"
    mapping.MeasurementUnitsCodeSequence = [code]
    return mapping


def read(make, role: Role = Role.T1) -> Volume:
    return read_volume(only_series(make.folder), role)


def turned(geometry: Geometry, angles_deg: tuple[float, float, float]) -> Geometry:
    """The grid turned around the world's origin."""
    place = np.eye(4)
    for axis, angle in enumerate(np.radians(angles_deg)):
        one = np.eye(4)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        one[first, first] = one[second, second] = math.cos(angle)
        one[first, second], one[second, first] = -math.sin(angle), math.sin(angle)
        place = one @ place
    return Geometry.from_affine(place @ geometry.affine, geometry.shape, geometry.frame_of_reference_uid)


def widened(geometry: Geometry, width_mm: float) -> Geometry:
    """The grid with rows of another length."""
    affine = geometry.affine
    affine[:3, 2] *= width_mm / geometry.shape[2] / geometry.spacing_mm[2]
    return Geometry.from_affine(affine, geometry.shape, geometry.frame_of_reference_uid)


def shown_there(volume: Volume) -> NDArray[np.float64]:
    """Return the values that the images must have at the world coordinates of the volume."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in volume.geometry.shape), indexing="ij"), axis=-1)
    world = index @ volume.geometry.affine[:3, :3].T + volume.geometry.affine[:3, 3]
    return 4000 + world @ np.array([3.0, 5.0, 7.0])


def assert_in_place(volume: Volume, geometry: Geometry) -> None:
    """Check that every voxel is at the position that its value encodes, and the grid is the one that was written."""
    assert volume.pixels.dtype == np.float32
    assert len(volume.frames) == geometry.shape[0]
    np.testing.assert_allclose(volume.pixels, shown_there(volume), atol=0.51)
    assert sorted(volume.geometry.spacing_mm) == pytest.approx(sorted(geometry.spacing_mm), abs=1e-6)
    assert volume.geometry.centre_mm == pytest.approx(geometry.centre_mm, abs=1e-6)


class TestPlaces:
    def test_axial(self, make, box):
        make.classic(box)
        volume = read(make)
        assert_in_place(volume, box)
        np.testing.assert_allclose(volume.geometry.affine, box.affine, atol=1e-9)
        assert volume.geometry.frame_of_reference_uid == box.frame_of_reference_uid
        assert [frame.number for frame in volume.frames] == [1] * 6

    @pytest.mark.parametrize("angles", [(90, 0, 0), (0, 90, 0), (0, 0, 90), (90, 0, 90), (13, -7, 4), (-62, 31, 170)])
    def test_any_orientation(self, make, box, angles):
        geometry = turned(box, angles)
        make.classic(geometry)
        assert_in_place(read(make), geometry)

    def test_slices_written_against_the_normal_are_turned_round(self, make, box):
        affine = box.affine
        affine[:3, 3] += 5 * affine[:3, 0]
        affine[:3, 0] *= -1
        make.classic(Geometry.from_affine(affine, box.shape, box.frame_of_reference_uid))
        volume = read(make)
        np.testing.assert_allclose(volume.geometry.affine, box.affine, atol=1e-9)
        assert_in_place(volume, box)
        # The image behind the first slice is the one that was written last.
        last = max(only_series(make.folder).instances, key=lambda one: one.instance_number)
        assert volume.frames[0].sop_instance_uid == last.sop_instance_uid

    def test_instance_numbers_do_not_order_slices(self, make, box):
        make.classic(box, numbers=(4, 1, 6, 2, 5, 3))
        assert_in_place(read(make), box)

    def test_spacing_comes_from_positions(self, make, box):
        make.classic(box, SliceThickness=99, SpacingBetweenSlices=42)
        assert read(make).geometry.spacing_mm == pytest.approx((3.0, 1.5, 1.25))

    def test_enhanced_frames_in_any_order(self, make, box):
        geometry = turned(box, (13, -7, 4))
        make.enhanced(geometry, shuffle=3)
        volume = read(make)
        assert_in_place(volume, geometry)
        positions = [
            frame.PlanePositionSequence[0].ImagePositionPatient
            for frame in pydicom.dcmread(make.folder / "enhanced.dcm").PerFrameFunctionalGroupsSequence
        ]
        for number, frame in enumerate(volume.frames):
            place = volume.geometry.affine @ (number, 0, 0, 1)
            assert place[:3] == pytest.approx([float(value) for value in positions[frame.number - 1]], abs=1e-6)

    def test_many_spellings_of_one_orientation(self, make, box):
        random = np.random.default_rng(1)

        def respell(dataset: Dataset, number: int) -> None:
            values = [float(value) + 3e-5 * random.uniform(-1, 1) for value in dataset.ImageOrientationPatient]
            dataset.ImageOrientationPatient = [f"{value:.9f}" for value in values]

        make.classic(box, change=respell)
        assert len({one.orientation for one in only_series(make.folder).instances}) == 6
        np.testing.assert_allclose(read(make).geometry.affine, box.affine, atol=1e-4)

    def test_positions_with_one_decimal_are_even(self, make, box):
        fine = Geometry.axial((9, 36, 40), (1.25, 1.5, 1.25), (0, 0, 0), box.frame_of_reference_uid)

        def round_off(dataset: Dataset, number: int) -> None:
            dataset.ImagePositionPatient = [f"{float(value):.1f}" for value in dataset.ImagePositionPatient]

        make.classic(fine, change=round_off)
        assert read(make).geometry.spacing_mm[0] == pytest.approx(1.25, abs=0.1 / 8)

    def test_objects_that_are_no_images_are_left_out(self, make, box):
        make.classic(box)

        def as_spectrum(dataset: Dataset, number: int) -> None:
            dataset.SOPClassUID = "1.3.46.670589.11.0.0.12.1"

        make.classic(box, first_file=100, change=as_spectrum)
        assert_in_place(read(make), box)


class TestValues:
    @pytest.mark.parametrize(
        "syntax",
        [
            *(ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
            *(RLELossless, JPEG2000Lossless, JPEGLSLossless),
        ],
    )
    @pytest.mark.parametrize("enhanced", [False, True])
    def test_every_transfer_syntax(self, make, box, syntax, enhanced):
        make.syntax = syntax
        if enhanced:
            make.enhanced(box, shuffle=1)
        else:
            make.classic(box)
        assert_in_place(read(make), box)

    @pytest.mark.parametrize("process", ["+e1", "+el"])
    def test_lossless_jpeg(self, make, box, program, process):
        for path in make.classic(box):
            subprocess.run([program("dcmcjpeg"), process, str(path), str(path)], check=True)
        assert_in_place(read(make), box)

    @pytest.mark.parametrize(("process", "bits"), [("+eb", 8), ("+ee", 12)])
    def test_lossy_jpeg_decodes_as_dcmtk_decodes_it(self, make, box, program, tmp_path, process, bits):
        smooth = np.add.outer(np.arange(box.shape[1]), np.arange(box.shape[2])) * (1 << bits) // 100
        stored = np.broadcast_to(smooth, box.shape)
        paths = make.classic(box, pixels=stored, BitsStored=bits, HighBit=bits - 1)
        for path in paths:
            subprocess.run([program("dcmcjpeg"), process, str(path), str(path)], check=True)
            subprocess.run([program("dcmdjpeg"), str(path), str(tmp_path / path.name)], check=True)
        expected = np.stack([dcmread(tmp_path / path.name).pixel_array for path in paths])
        found = read(make).pixels
        assert 0.9 * (1 << bits) * 2 * 36 / 100 < np.ptp(expected), "the image is not empty"
        np.testing.assert_allclose(found, expected, atol=1)  # T.81 lets decoders round an inverse DCT by one

    def test_rescale_of_each_image(self, make, box):
        stored = np.full(box.shape, 10)

        def rescale(dataset: Dataset, number: int) -> None:
            dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number, -3

        make.classic(box, pixels=stored, change=rescale)
        assert read(make).pixels[:, 0, 0].tolist() == [10 * (1 + number) - 3 for number in range(6)]

    @pytest.mark.parametrize(("slopes", "expected"), [((None, None), 1), ((2, None), 2), ((None, 3), 3), ((2, 3), 3)])
    def test_rescale_of_enhanced_frames(self, make, box, slopes, expected):
        make.enhanced(box, shared_slope=slopes[0], frame_slope=slopes[1])
        volume = read(make)
        np.testing.assert_allclose(volume.pixels, expected * np.rint(shown_there(volume)), rtol=1e-6)

    def test_a_rescale_of_an_enhanced_image_outside_of_its_groups(self, make, box):
        make.enhanced(box, RescaleSlope=2, RescaleIntercept=0)
        volume = read(make)
        np.testing.assert_allclose(volume.pixels, 2 * np.rint(shown_there(volume)), rtol=1e-6)

    def test_a_slope_that_is_zero_is_refused(self, make, box):
        make.classic(box, RescaleSlope=0, RescaleIntercept=0)
        with pytest.raises(PixelsUndecodable, match="slope of 0"):
            read(make)

    def test_a_slope_that_some_images_lack_is_refused(self, make, box):
        make.classic(
            box, RescaleSlope=2, change=lambda dataset, number: dataset.pop("RescaleSlope") if number else None
        )
        with pytest.raises(PixelsUndecodable, match="5 of its 6 images have no rescale slope"):
            read(make)

    def test_signed_values_of_twelve_bits(self, make, box):
        stored = np.full(box.shape, -5)
        make.classic(box, pixels=stored & 0x0FFF, PixelRepresentation=1, BitsStored=12, HighBit=11)
        assert read(make).pixels.max() == -5

    def test_bits_above_the_stored_ones_are_no_part_of_the_value(self, make, box):
        make.classic(box, pixels=np.full(box.shape, 0xF123), BitsStored=12, HighBit=11)
        assert read(make).pixels.max() == 0x123


class TestSeveralVolumes:
    @pytest.mark.parametrize(
        ("keyword", "values", "role", "taken"),
        [
            ("EchoTime", (10, 90), Role.T1, 10),
            ("EchoTime", (10, 90), Role.T2, 90),
            ("DiffusionBValue", (0.0, 1000.0), Role.DWI, 1000),
            ("TemporalPositionIdentifier", (1, 2), Role.T1CE, 2),
            ("AcquisitionNumber", (1, 2), Role.T1CE, 2),
        ],
    )
    def test_headers_tell_them_apart(self, make, box, keyword, values, role, taken):
        for number, value in enumerate(values):
            pixels = np.full(box.shape, value)
            make.classic(box, pixels=pixels, first_file=1 + 100 * number, **{keyword: value})
        volume = read(make, role)
        assert volume.pixels.shape == box.shape
        assert set(volume.pixels.ravel()) == {float(taken)}
        assert "2 volumes" in volume.notes[0]

    def test_of_a_broken_off_dynamic_the_last_whole_one(self, make, box):
        for number in (1, 2, 3):
            make.classic(
                *(box,), pixels=np.full(box.shape, number), first_file=100 * number, TemporalPositionIdentifier=number
            )
        for path in sorted(make.folder.iterdir())[-2:]:
            path.unlink()
        assert set(read(make, Role.T1CE).pixels.ravel()) == {2.0}

    def test_magnitude_before_phase(self, make, box):
        make.classic(box, pixels=np.full(box.shape, 1), ImageType=["ORIGINAL", "PRIMARY", "P"])
        make.classic(box, pixels=np.full(box.shape, 2), first_file=100)
        assert set(read(make).pixels.ravel()) == {2.0}

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({}, {"ContrastBolusAgent": "agent"}),
            ({"AcquisitionTime": "100000"}, {"AcquisitionTime": "101500"}),
            ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
            # The header of the agent goes before the number: numbers are not always in order.
            ({"AcquisitionNumber": 2}, {"AcquisitionNumber": 1, "ContrastBolusAgent": "agent"}),
        ],
    )
    def test_before_and_after_contrast_in_one_series(self, make, box, before, after):
        for value, fields in ((1, before), (2, after)):
            make.classic(
                box, pixels=np.full(box.shape, value), first_file=100 * value, AcquisitionDate="20240101", **fields
            )
        assert set(read(make, Role.T1CE).pixels.ravel()) == {2.0}
        assert set(read(make, Role.T1).pixels.ravel()) == {1.0}

    @pytest.mark.parametrize("whole", [1, 2])
    def test_of_a_half_and_a_whole_acquisition_the_whole(self, make, box, whole):
        """Told apart by the times of their images, of which each has its own."""

        def timed(acquisition: int):
            def change(dataset, number: int) -> None:
                dataset.AcquisitionDate = "20240101"
                dataset.AcquisitionTime = f"10{10 * acquisition + number // 6:02d}{number:02d}"

            return change

        for acquisition in (1, 2):
            slices = 6 if acquisition == whole else 3
            part = Geometry.from_affine(box.affine, (slices, 36, 40), box.frame_of_reference_uid)
            pixels = np.full(part.shape, acquisition)
            make.classic(part, pixels=pixels, first_file=100 * acquisition, change=timed(acquisition))
        volume = read(make, Role.T1CE)
        assert volume.pixels.shape == box.shape
        assert set(volume.pixels.ravel()) == {float(whole)}

    def test_slices_that_were_measured_twice_in_turn_are_not_told_apart(self, make, box):
        def change(dataset, number: int) -> None:
            dataset.AcquisitionDate = "20240101"
            dataset.AcquisitionTime = f"1000{2 * number + (dataset.InstanceNumber >= 100):02d}"

        make.classic(box, change=change)
        make.classic(box, pixels=np.full(box.shape, 7), first_file=100, change=change)
        with pytest.raises(RepeatedPositions):
            read(make)

    def test_repeats_that_nothing_tells_apart(self, make, box):
        make.classic(box)
        make.classic(box, pixels=np.full(box.shape, 7), first_file=100)
        with pytest.raises(RepeatedPositions, match="12 images stand at 6 positions"):
            read(make)

    def test_one_repeated_slice(self, make, box):
        make.classic(box)
        make.classic(Geometry.from_affine(box.affine, (1, 36, 40), ""), pixels=np.full((1, 36, 40), 7), first_file=100)
        with pytest.raises(RepeatedPositions):
            read(make)


class TestRepeatedImages:
    """Images that came twice under new SOP Instance UIDs, pixels equal."""

    @pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, JPEGLSLossless])
    @pytest.mark.parametrize("count", [1, 5, 6])
    def test_equal_ones_are_one_image(self, make, box, syntax, count):
        make.classic(box)
        make.syntax = syntax
        make.classic(Geometry.from_affine(box.affine, (count, 36, 40), ""), first_file=100)
        volume = read(make, Role.T1CE)
        assert_in_place(volume, box)
        (remark,) = volume.remarks
        assert (remark.kind, remark.roles) == (RemarkKind.REPEATED_IMAGES, (Role.T1CE,))
        assert remark.text.startswith(f"{count} images")
        originals = {one.sop_instance_uid for one in only_series(make.folder).instances if one.instance_number < 100}
        assert {frame.sop_instance_uid for frame in volume.frames} == originals

    def test_a_repeat_with_another_rescale_is_another_image(self, make, box):
        make.classic(box)
        make.classic(Geometry.from_affine(box.affine, (1, 36, 40), ""), first_file=100, RescaleSlope=2)
        with pytest.raises(RepeatedPositions):
            read(make)

    def test_padding_does_not_make_different_images_equal(self, make, box):
        make.classic(
            box, pixels=np.full(box.shape, 5), change=lambda dataset, number: dataset.add_new(PADDING, "US", 5)
        )
        make.classic(
            *(Geometry.from_affine(box.affine, (1, 36, 40), ""),),
            pixels=np.full((1, 36, 40), 6),
            first_file=100,
            change=lambda dataset, number: dataset.add_new(PADDING, "US", 6),
        )
        with pytest.raises(RepeatedPositions):
            read(make)

    def test_of_diffusion_images(self, make, box):
        for b_value in (0.0, 1000.0):
            pixels = np.full(box.shape, round(1000 * math.exp(-b_value * 8e-4)))
            make.classic(box, pixels=pixels, first_file=1 + int(b_value), DiffusionBValue=b_value)
            make.classic(
                *(Geometry.from_affine(box.affine, (2, 36, 40), ""),),
                pixels=pixels,
                first_file=5001 + int(b_value),
                DiffusionBValue=b_value,
            )
        assert set(read(make, Role.DWI).pixels.ravel()) == {449.0}
        adc = read(make, Role.ADC)
        assert adc.remarks[0].text.startswith("4 images")
        np.testing.assert_allclose(adc.pixels, 800, rtol=2e-3)

    def test_of_a_dynamic(self, make, box):
        for phase in (1, 2):
            make.classic(
                box, pixels=np.full(box.shape, phase), first_file=100 * phase, TemporalPositionIdentifier=phase
            )
        make.classic(box, pixels=np.full(box.shape, 2), first_file=300, TemporalPositionIdentifier=2)
        volume = read(make, Role.T1CE)
        assert set(volume.pixels.ravel()) == {2.0}
        assert volume.remarks[0].text.startswith("6 images")

    def test_copies_whose_headers_differ_here_and_there(self, make, box):
        def vary(dataset: Dataset, number: int) -> None:
            dataset.AcquisitionNumber = number % 2

        make.classic(box)
        make.classic(box, first_file=100, change=vary)
        volume = read(make)
        assert_in_place(volume, box)


class TestFramesOfReference:
    def test_one_for_each_image_of_a_regular_stack(self, make, box):
        def own(dataset: Dataset, number: int) -> None:
            dataset.FrameOfReferenceUID = f"1.2.3.{number + 1}"

        make.classic(box, change=own)
        volume = read(make)
        assert_in_place(volume, box)
        assert volume.geometry.frame_of_reference_uid == "1.2.3.1"
        assert "frame of reference of its own" in volume.remarks[0].text

    @pytest.mark.parametrize("first", [1, 3, 5])
    def test_several_acquisitions_or_a_stray_image_are_refused(self, make, box, first):
        def move(dataset: Dataset, number: int) -> None:
            if number >= first:
                dataset.FrameOfReferenceUID = "1.2.3"

        make.classic(box, change=move)
        with pytest.raises(FramesOfReferenceDiffer, match="2 frames of reference"):
            read(make)

    def test_images_without_one_take_that_of_the_others(self, make, box):
        make.classic(box, change=lambda dataset, number: dataset.pop("FrameOfReferenceUID") if number < 2 else None)
        volume = read(make)
        assert volume.geometry.frame_of_reference_uid == box.frame_of_reference_uid
        assert volume.remarks[0].text.startswith("2 images")

    def test_no_remark_where_all_agree_or_none_names_one(self, make, box):
        make.classic(box)
        assert read(make).remarks == ()
        make.classic(box, FrameOfReferenceUID="")
        assert (read(make).remarks, read(make).geometry.frame_of_reference_uid) == ((), "")


class TestRefused:
    def test_a_missing_slice(self, make, box):
        make.classic(box)[2].unlink()
        with pytest.raises(SlicesMissing, match="1 slice is missing"):
            read(make)

    def test_uneven_spacing(self, make, box):
        def push(dataset: Dataset, number: int) -> None:
            if number > 2:
                x, y, z = dataset.ImagePositionPatient
                dataset.ImagePositionPatient = [x, y, float(z) + 1.0]

        make.classic(box, change=push)
        with pytest.raises(IrregularSlices, match="unevenly"):
            read(make)

    def test_shear(self, make, box):
        affine = box.affine
        affine[1, 0] = 0.4
        make.classic(Geometry.from_affine(affine, box.shape, box.frame_of_reference_uid))
        with pytest.raises(GantryShear, match=r"2\.0 mm"):  # five steps of 0.4 mm
            read(make)

    def test_a_stray_size(self, make, box):
        make.classic(box)
        make.classic(Geometry.from_affine(box.affine, (1, 16, 16), ""), first_file=100)
        with pytest.raises(StrayImage, match="1 of 16 x 16"):
            read(make)

    def test_a_stray_pixel_spacing(self, make, box):
        def zoom(dataset: Dataset, number: int) -> None:
            if number == 3:
                dataset.PixelSpacing = ["2", "2"]

        make.classic(box, change=zoom)
        with pytest.raises(StrayImage, match="spacings"):
            read(make)

    def test_two_orientations(self, make, box):
        make.classic(box)
        make.classic(turned(box, (90, 0, 0)), first_file=100)
        with pytest.raises(MixedOrientations):
            read(make)

    def test_a_single_slice(self, make, box):
        make.classic(Geometry.from_affine(box.affine, (1, 36, 40), ""))
        with pytest.raises(TooFewSlices):
            read(make)

    def test_a_series_of_other_objects(self, make, box):
        make.classic(box, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
        with pytest.raises(TooFewSlices, match=r"none of its 6 objects .*choose\.rules_file"):
            read(make)

    def test_colour(self, make, box):
        make.classic(box, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
        with pytest.raises(ColourImages):
            read(make)

    @pytest.mark.parametrize("kind", ["MOSAIC", "VFRAME"])
    def test_mosaic(self, make, box, kind):
        make.classic(box, ImageType=["ORIGINAL", "PRIMARY", "M", kind])
        with pytest.raises(MosaicImages, match=r"mosaic.*Send them as single slices"):
            read(make)

    @pytest.mark.parametrize(
        ("group", "creator", "number", "vr"),
        [(0x19, "SIEMENS MR HEADER", 0x0A, "US"), (0x65, "Image Private Header", 0x50, "DS")],
    )
    def test_mosaics_whose_image_type_was_replaced(self, make, box, group, creator, number, vr):
        def count(dataset: Dataset, _: int) -> None:
            dataset.private_block(group, creator, create=True).add_new(number, vr, 4)

        # Four tiles of 200 mm; split by another program, each of them still has the count.
        make.classic(widened(box, 400), change=count)
        with pytest.raises(MosaicImages):
            read(make)
        make.classic(widened(box, 200), change=count)
        assert read(make).pixels.shape == box.shape

    def test_mosaics_that_no_header_tells_are_too_wide_for_a_head(self, make, box):
        make.classic(widened(box, 880))
        with pytest.raises(MosaicImages):
            read(make)

    def test_truncated_pixels(self, make, box):
        path = make.classic(box)[5]
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(PixelsMissing, match="1 image"):
            read(make)

    def test_a_file_that_shrank_after_the_scan(self, make, box):
        paths = make.classic(box)
        series = only_series(make.folder)
        paths[5].write_bytes(paths[5].read_bytes()[:-10])
        with pytest.raises(PixelsMissing):
            read_volume(series, Role.T1)
        paths[5].unlink()
        with pytest.raises(PixelsMissing):
            read_volume(series, Role.T1)

    def test_an_unknown_transfer_syntax(self, make, box):
        make.syntax = RLELossless
        for path in make.classic(box):
            path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.99\0\0"))
        with pytest.raises(PixelsUndecodable, match=r"1\.2\.840\.10008\.1\.99"):
            read(make)

    def test_broken_compressed_pixels(self, make, box):
        make.syntax = JPEG2000Lossless
        for path in make.classic(box):
            content = path.read_bytes()
            start = content.index(b"\xff\x4f\xff\x51")
            path.write_bytes(content[:start] + bytes(40) + content[start + 40 :])
        with pytest.raises(PixelsUndecodable, match="JPEG 2000"):
            read(make)

    @pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
    def test_no_place_in_space(self, make, box, keyword):
        make.classic(box, change=lambda dataset, number: dataset.pop(keyword))
        with pytest.raises(PlaceUnknown):
            read(make)

    def test_multi_frame_images_without_places(self, make, box):
        def as_multi_frame(dataset: Dataset, number: int) -> None:
            dataset.NumberOfFrames = 2
            dataset.PixelData = dataset.PixelData * 2

        make.classic(box, change=as_multi_frame)
        with pytest.raises(PlaceUnknown, match="where each frame stands"):
            read(make)

    def test_directions_that_are_not_perpendicular(self, make, box):
        def squash(dataset: Dataset, number: int) -> None:
            dataset.ImageOrientationPatient = ["1", "0", "0", "1", "0", "0"]

        make.classic(box, change=squash)
        with pytest.raises(PlaceUnknown, match="perpendicular"):
            read(make)

    def test_messages_name_the_series_and_no_patient(self, make, box):
        make.classic(box)[2].unlink()
        series = only_series(make.folder)
        with pytest.raises(SeriesUnreadable) as caught:
            read_volume(series, Role.T1)
        assert series.series_instance_uid in str(caught.value)
        assert "SECRET" not in str(caught.value)


class TestAdc:
    BRAIN = 800.0  # 10^-6 mm2/s, about white matter

    @pytest.mark.parametrize(
        ("slope", "factor"), [(1.0, 1.0), (1e-3, 1e3), (1e-6, 1e6)], ids=["10^-6", "10^-3", "whole"]
    )
    def test_units_by_the_median(self, make, box, slope, factor):
        make.classic(box, pixels=np.full(box.shape, 800), RescaleSlope=slope, RescaleIntercept=0)
        volume = read(make, Role.ADC)
        np.testing.assert_allclose(volume.pixels, self.BRAIN, rtol=1e-5)
        assert f"times {factor:g}" in volume.notes[0]

    @pytest.mark.parametrize(
        ("unit", "slope"),
        [("um2/s", 0.1), ("mm2/s", 1e-7), ("10-3.mm2/s", 1e-4), ("10*-6.mm2/s", 0.1), ("10^-6 mm^2/s", 0.1)],
    )
    def test_units_coded_in_the_header(self, make, box, unit, slope):
        # Stored 8000 is 800 x 10^-6 mm2/s; by the median it would be refused.
        make.classic(box, pixels=np.full(box.shape, 8000), RealWorldValueMappingSequence=[real_world(unit, slope)])
        volume = read(make, Role.ADC)
        np.testing.assert_allclose(volume.pixels, self.BRAIN, rtol=1e-5)
        assert unit in volume.notes[0]

    @pytest.mark.parametrize(
        ("unit", "slope"), [("um2/s", 1e-3), ("um2/s", 1e3), ("mm2/s", 1.0), ("10-3.mm2/s", 1.0), ("um2/s", 1e-9)]
    )
    def test_a_coded_unit_that_the_brain_contradicts_is_refused(self, make, box, unit, slope):
        make.classic(box, pixels=np.full(box.shape, 800), RealWorldValueMappingSequence=[real_world(unit, slope)])
        with pytest.raises(UnitsUnknown, match=f"real-world value map says {re.escape(unit)}.*no brain has"):
            read(make, Role.ADC)

    def test_of_an_enhanced_image_whose_map_stands_outside_of_its_groups(self, make, box):
        pixels = np.full(box.shape, 8000, "<u2")
        make.enhanced(box, RealWorldValueMappingSequence=[real_world("um2/s", 0.1)], values=pixels)
        np.testing.assert_allclose(read(make, Role.ADC).pixels, self.BRAIN, rtol=1e-5)

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_several_maps_the_one_in_a_unit_of_diffusion(self, make, box, order):
        maps = [real_world("1", 7.0), real_world("um2/s", 0.1), real_world("ms", 3.0)][::order]
        make.classic(box, pixels=np.full(box.shape, 8000), RealWorldValueMappingSequence=maps)
        np.testing.assert_allclose(read(make, Role.ADC).pixels, self.BRAIN, rtol=1e-5)

    def test_of_two_maps_of_diffusion_the_one_of_more_values(self, make, box):
        maps = [real_world("um2/s", 1.0, 0, 4), real_world("um2/s", 0.1, 5, 60000)]
        make.classic(box, pixels=np.full(box.shape, 8000), RealWorldValueMappingSequence=maps)
        np.testing.assert_allclose(read(make, Role.ADC).pixels, self.BRAIN, rtol=1e-5)

    def test_a_map_in_another_unit_leaves_the_median(self, make, box):
        make.classic(box, pixels=np.full(box.shape, 800), RealWorldValueMappingSequence=[real_world("1", 1e-3)])
        assert "judged by its median" in read(make, Role.ADC).notes[0]

    @pytest.mark.parametrize(("signed", "first", "last"), [(0, 1, 4000), (1, -100, 4000)])
    def test_values_outside_of_the_mapped_range_are_missing(self, make, box, signed, first, last):
        pixels = np.full(box.shape, 800)
        pixels[:, 3], pixels[:, 4] = 4001, 4000
        scale = real_world("um2/s", 1.0, first, last)
        make.classic(box, pixels=pixels, PixelRepresentation=signed, RealWorldValueMappingSequence=[scale])
        adc = read(make, Role.ADC).pixels
        assert np.isnan(adc[:, 3]).all()
        assert np.isfinite(np.delete(adc, 3, axis=1)).all()

    def test_a_range_of_the_other_sign_is_no_range(self, make, box):
        # 0 to 65535 for signed pixels would end at -1.
        scale = real_world("um2/s", 1.0, 0, 65535)
        make.classic(box, pixels=np.full(box.shape, 800), PixelRepresentation=1, RealWorldValueMappingSequence=[scale])
        assert np.isfinite(read(make, Role.ADC).pixels).all()

    def test_a_range_that_leaves_the_brain_out_is_refused(self, make, box):
        pixels = np.full(box.shape, 800)
        pixels[:, :, ::8] = 500
        scale = real_world("um2/s", 1.0, 0, 600)
        make.classic(box, pixels=pixels, RealWorldValueMappingSequence=[scale])
        with pytest.raises(UnitsUnknown, match="leaves out most"):
            read(make, Role.ADC)

    def test_a_map_that_is_a_table_is_refused(self, make, box):
        scale = real_world("um2/s", 1.0)
        del scale.RealWorldValueSlope, scale.RealWorldValueIntercept
        scale.RealWorldValueLUTData = [0.0, 1.0]
        make.classic(box, pixels=np.full(box.shape, 800), RealWorldValueMappingSequence=[scale])
        with pytest.raises(UnitsUnknown, match="a table"):
            read(make, Role.ADC)

    def test_an_image_without_its_map_takes_that_of_the_others(self, make, box):
        def drop(dataset: Dataset, number: int) -> None:
            if number == 0:
                del dataset.RealWorldValueMappingSequence

        scale = [real_world("um2/s", 0.1)]
        make.classic(box, pixels=np.full(box.shape, 8000), RealWorldValueMappingSequence=scale, change=drop)
        np.testing.assert_allclose(read(make, Role.ADC).pixels, self.BRAIN, rtol=1e-5)

    def test_maps_on_some_images_in_another_unit_are_refused(self, make, box):
        def other(dataset: Dataset, number: int) -> None:
            dataset.RealWorldValueMappingSequence = [real_world("um2/s" if number else "1", 0.1)]

        make.classic(box, pixels=np.full(box.shape, 8000), change=other)
        with pytest.raises(UnitsUnknown, match="only some of its images"):
            read(make, Role.ADC)

    def test_a_rescale_type_that_the_values_contradict_is_said(self, make, box):
        scale = {"RescaleSlope": 1, "RescaleIntercept": 0}
        make.classic(box, pixels=np.full(box.shape, 800), RescaleType="mm2/s", **scale)
        assert [remark.kind for remark in read(make, Role.ADC).remarks] == [RemarkKind.UNITS]
        make.classic(box, pixels=np.full(box.shape, 800), RescaleType="10^-6 mm2/s", **scale)
        assert read(make, Role.ADC).remarks == ()

    def test_b_values_that_give_no_brain_are_refused(self, make, box):
        for b_value, signal in ((0.0, 450), (1000.0, 1000)):  # exchanged
            pixels = np.full(box.shape, signal)
            make.classic(box, pixels=pixels, first_file=1 + int(b_value), DiffusionBValue=b_value)
        with pytest.raises(UnitsUnknown, match="by the b-values of its images"):
            read(make, Role.ADC)

    @pytest.mark.parametrize("stored", [50, 60000])
    def test_unknown_units_are_refused(self, make, box, stored):
        make.classic(box, pixels=np.full(box.shape, stored))
        with pytest.raises(UnitsUnknown, match="fits no known unit"):
            read(make, Role.ADC)

    def test_an_empty_map_is_refused(self, make, box):
        make.classic(box, pixels=np.zeros(box.shape))
        with pytest.raises(UnitsUnknown):
            read(make, Role.ADC)

    def test_failed_fits_are_missing(self, make, box):
        pixels = np.full(box.shape, 800)
        pixels[3, 4, 5] = 0
        pixels[3, 4, 6] = -20 & 0xFFFF
        make.classic(box, pixels=pixels.astype("<u2").view("<i2"), PixelRepresentation=1)
        volume = read(make, Role.ADC)
        assert np.isnan(volume.pixels[3, 4, 5:7]).all()
        assert np.isfinite(volume.pixels).sum() == pixels.size - 2

    def test_zero_is_a_value_elsewhere(self, make, box):
        make.classic(box, pixels=np.zeros(box.shape))
        assert (read(make).pixels == 0).all()

    def test_noise_at_the_border_does_not_hide_the_brain(self, make):
        # A head in the middle, and noise of 10 in the air around it, as some scanners leave it.
        geometry = Geometry.axial((8, 32, 32), (5.0, 4.0, 4.0), (0, 0, 0), "1.2.3")
        pixels = np.full(geometry.shape, 10)
        pixels[:, 6:26, 6:26] = 800
        make.classic(geometry, pixels=pixels)
        assert "times 1," in read(make, Role.ADC).notes[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*(st.floats(-180, 180) for _ in range(3))),
    spacing=st.tuples(st.floats(0.4, 7), st.floats(0.3, 2), st.floats(0.3, 2)),
    order=st.permutations(range(1, 6)),
    enhanced=st.booleans(),
)
def test_any_rotation_spacing_and_order_gives_the_same_world(make, angles, spacing, order, enhanced):
    straight = Geometry.axial((5, 6, 7), spacing, (10.0, 20.0, -30.0), "1.2.3.4")
    geometry = turned(straight, angles)
    for path in make.folder.glob("*"):
        path.unlink()
    if enhanced:
        make.enhanced(geometry, shuffle=order[0])
    else:
        make.classic(geometry, numbers=tuple(order))
    assert_in_place(read(make), geometry)
