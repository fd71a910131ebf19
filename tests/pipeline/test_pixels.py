"""Stored pixels become the right numbers: padding is no value, bits stand where the header says, syntaxes are known."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from models.labels import Role
from pipeline.errors import AirBright, PaddingDoubtful, PixelsUndecodable
from pipeline.read import read_volume
from pipeline.scan import scan
from pipeline.transfer_syntaxes import GE_BIG_ENDIAN_PIXELS
from pipeline.volume import Volume

PADDING, LIMIT = 0x00280120, 0x00280121


def read(make, role: Role = Role.T1) -> Volume:
    (study,) = scan([make.folder]).studies
    (series,) = study.series
    return read_volume(series, role)


def with_border(shape: tuple[int, int, int], border: float) -> np.ndarray:
    """A noisy head in a border of one value."""
    pixels = np.full(shape, float(border))
    inside = np.s_[:, 6:-6, 6:-6]
    pixels[inside] = np.random.default_rng(1).integers(600, 1400, pixels[inside].shape)
    return pixels


def declare(values: dict[int, tuple[str, object]]):
    """Return a change that adds elements with their VR."""

    def change(dataset: Dataset, number: int) -> None:
        for tag, (vr, value) in values.items():
            dataset.add(DataElement(tag, vr, value))

    return change


def say_syntax(path: Path, old: str, new: str) -> None:
    """Write another transfer syntax into the meta information of a file, and nothing else."""
    content, elements = path.read_bytes(), []
    for uid in (old, new):
        padded = str(uid).encode() + b"\0" * (len(uid) % 2)
        elements.append(b"\x02\0\x10\0UI" + len(padded).to_bytes(2, "little") + padded)
    assert elements[0] in content
    grown = len(elements[1]) - len(elements[0])
    length = int.from_bytes(content[140:144], "little") + grown
    content = content[:140] + length.to_bytes(4, "little") + content[144:]
    path.write_bytes(content.replace(*elements, 1))


def assert_padded(volume: Volume, pixels: np.ndarray, is_padding: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(volume.pixels), is_padding)
    np.testing.assert_array_equal(volume.pixels[~is_padding], pixels[~is_padding])


class TestPadding:
    @pytest.mark.parametrize("role", [Role.T1CE, Role.FLAIR, Role.ADC])
    @pytest.mark.parametrize(
        ("border", "signed", "vr", "value"),
        [
            (32767, 0, "US", 32767),
            (65535, 0, "US", 65535),
            (65535, 0, "SS", -1),
            (0, 0, "US", 0),
            (-32768, 1, "SS", -32768),
            (-2000, 1, "SS", -2000),
            (-2000, 1, "US", 65536 - 2000),
            (32767, 1, "US", 32767),
        ],
    )
    def test_one_value_whatever_its_vr(self, make, box, role, border, signed, vr, value):
        pixels = with_border(box.shape, border)
        make.classic(
            box,
            pixels=pixels.astype("<i8") & 0xFFFF if not signed else pixels,
            PixelRepresentation=signed,
            change=declare({PADDING: (vr, value)}),
        )
        volume = read(make, role)
        assert_padded(volume, pixels, pixels == border)
        assert "padding" in " ".join(volume.notes)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
    def test_in_other_transfer_syntaxes(self, make, box, syntax):
        make.syntax = syntax
        pixels = with_border(box.shape, 32767)
        make.classic(box, pixels=pixels, change=declare({PADDING: ("US", 32767)}))
        assert_padded(read(make), pixels, pixels == 32767)

    @pytest.mark.parametrize("ends", [(32000, 32003), (32003, 32000)])
    def test_a_range_in_either_order(self, make, box, ends):
        pixels = with_border(box.shape, 32000)
        pixels[:, :3] = 32003
        pixels[:, -1] = 32004
        make.classic(box, pixels=pixels, change=declare({PADDING: ("US", ends[0]), LIMIT: ("US", ends[1])}))
        assert_padded(read(make), pixels, (pixels >= 32000) & (pixels <= 32003))

    def test_it_is_compared_before_the_rescale(self, make, box):
        pixels = with_border(box.shape, 7)
        make.classic(
            *(box,),
            pixels=pixels,
            RescaleSlope=2,
            RescaleIntercept=-7,
            change=declare({PADDING: ("US", 7)}),
        )
        assert_padded(read(make), 2 * pixels - 7, pixels == 7)

    def test_of_enhanced_images(self, make, box):
        path = make.enhanced(box, frame_slope=2)
        dataset = dcmread(path)
        pixels = dataset.pixel_array.copy()
        pixels[:, :5] = 32767
        dataset.PixelData, dataset.PixelPaddingValue = pixels.tobytes(), 32767
        dataset["PixelPaddingValue"].VR = "US"
        dataset.save_as(path)
        found = read(make).pixels
        assert np.isnan(found[:, :5]).all()
        assert np.isfinite(found[:, 5:]).all()

    @pytest.mark.parametrize(("size", "vr", "tags"), [("f4", "FL", (0x122, 0x124)), ("f8", "FD", (0x123, 0x125))])
    def test_of_float_pixels(self, make, box, size, vr, tags):
        pixels = with_border(box.shape, -1e6)
        pixels[0, 0, :4] = -2e6, np.nan, np.inf, -3e6

        def as_float(dataset: Dataset, number: int) -> None:
            name = "FloatPixelData" if size == "f4" else "DoubleFloatPixelData"
            setattr(dataset, name, pixels[number].astype("<" + size).tobytes())
            del dataset.PixelData
            dataset.BitsAllocated = 32 if size == "f4" else 64
            declare({0x00280000 + tags[0]: (vr, -1e6), 0x00280000 + tags[1]: (vr, -2e6)})(dataset, number)

        make.classic(box, change=as_float, SOPClassUID="1.2.840.10008.5.1.4.1.1.30")
        assert_padded(read(make), pixels, ~np.isfinite(pixels) | ((pixels >= -2e6) & (pixels <= -1e6)))

    def test_a_value_above_the_stored_bits_is_looked_for_in_whole_cells(self, make, box):
        pixels = with_border(box.shape, 0x7000)
        make.classic(box, pixels=pixels, BitsStored=12, HighBit=11, change=declare({PADDING: ("US", 0x7000)}))
        assert_padded(read(make), pixels, pixels == 0x7000)

    def test_an_ordinary_grey_value_is_none(self, make, box):
        pixels = np.random.default_rng(1).integers(600, 640, box.shape)
        make.classic(box, pixels=pixels, change=declare({PADDING: ("US", 620)}))
        volume = read(make)
        np.testing.assert_array_equal(volume.pixels, pixels)
        assert "ordinary grey value" in volume.notes[0]

    def test_a_range_over_the_tissue_is_refused(self, make, box):
        pixels = with_border(box.shape, 0)
        make.classic(box, pixels=pixels, change=declare({PADDING: ("US", 0), LIMIT: ("US", 1300)}))
        with pytest.raises(PaddingDoubtful, match=r"0028,0120.*most of the head"):
            read(make)

    def test_a_range_of_noise_in_air_and_outer_slices_is_padding(self, make, box):
        pixels = np.random.default_rng(4).integers(31000, 32001, box.shape)
        pixels[1:-1, 6:-6, 6:-6] = with_border(box.shape, 0)[1:-1, 6:-6, 6:-6]
        make.classic(box, pixels=pixels, change=declare({PADDING: ("US", 32000), LIMIT: ("US", 31000)}))
        assert_padded(read(make), pixels, pixels >= 31000)

    @pytest.mark.parametrize("role", [Role.T1CE, Role.FLAIR])
    def test_padding_that_no_header_declares_is_refused(self, make, box, role):
        make.classic(box, pixels=with_border(box.shape, 32767))
        with pytest.raises(AirBright):
            read(make, role)

    def test_inverted_images_are_refused(self, make, box):
        make.classic(box, pixels=4095 - with_border(box.shape, 0), PhotometricInterpretation="MONOCHROME1")
        with pytest.raises(AirBright, match="MONOCHROME1"):
            read(make)

    def test_nothing_but_padding_is_refused(self, make, box):
        make.classic(box, pixels=np.full(box.shape, 5), change=declare({PADDING: ("US", 5)}))
        with pytest.raises(PaddingDoubtful, match="100%"):
            read(make)

    def test_diffusion_images_with_padding_still_give_an_adc(self, make, box):
        signal = np.full(box.shape, 1000.0)
        for b_value in (0.0, 1000.0):
            pixels = np.rint(signal * np.exp(-b_value * 8e-4))
            pixels[:, :6] = 32767
            make.classic(
                *(box,),
                pixels=pixels,
                first_file=1 + int(b_value),
                DiffusionBValue=b_value,
                change=declare({PADDING: ("US", 32767)}),
            )
        adc = read(make, Role.ADC).pixels
        assert np.isnan(adc[:, :6]).all()
        np.testing.assert_allclose(adc[:, 6:], 800, rtol=2e-3)


class TestBits:
    VALUES = np.random.default_rng(2).integers(0, 2048, (6, 36, 40))

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
    @pytest.mark.parametrize(("signed", "low"), [(0, 0), (1, -1000)])
    def test_values_in_the_upper_bits(self, make, box, syntax, signed, low):
        make.syntax = syntax
        values = self.VALUES + low
        for path in make.classic(box, pixels=values << 4, PixelRepresentation=signed):
            dataset = dcmread(path)  # pydicom's encoder would clear bits outside of the stored ones
            dataset.BitsStored, dataset.HighBit = 12, 15
            dataset.save_as(path)
        np.testing.assert_array_equal(read(make).pixels, values)

    def test_values_in_the_middle_of_cells_with_overlays_on_both_sides(self, make, box):
        overlays = np.random.default_rng(3).integers(0, 2, box.shape) * 0xC003
        make.classic(box, pixels=(self.VALUES & 0xFFF) << 2 | overlays, BitsStored=12, HighBit=13)
        np.testing.assert_array_equal(read(make).pixels, self.VALUES)

    def test_overlays_of_whole_rows_are_no_part_of_the_value(self, make, box):
        overlay = np.zeros(box.shape, int)
        overlay[:, ::7] = 0x1000
        make.classic(box, pixels=self.VALUES | overlay, BitsStored=12, HighBit=11)
        np.testing.assert_array_equal(read(make).pixels, self.VALUES)

    def test_an_overlay_in_compressed_cells_is_no_part_of_the_value(self, make, box):
        make.syntax = RLELossless
        overlay = np.zeros(box.shape, int)
        overlay[:, 10:20, 10:20] = 0x8000
        for path in make.classic(box, pixels=self.VALUES | overlay):
            dataset = dcmread(path)
            dataset.BitsStored, dataset.HighBit = 12, 11
            dataset.save_as(path)
        np.testing.assert_array_equal(read(make).pixels, self.VALUES)

    @pytest.mark.parametrize(
        ("stored", "high"), [(12, 10), (12, 16), (17, 16), (17, 11)], ids=["low", "high", "many", "both"]
    )
    def test_impossible_bits_are_refused(self, make, box, stored, high):
        make.classic(box, pixels=self.VALUES, BitsStored=stored, HighBit=high)
        with pytest.raises(PixelsUndecodable, match="contradict each other"):
            read(make)

    def test_upper_bits_have_no_meaning_in_compressed_values(self, make, box):
        make.syntax = JPEG2000Lossless
        make.classic(box, pixels=self.VALUES)
        for path in make.folder.iterdir():
            dataset = dcmread(path)
            dataset.BitsStored, dataset.HighBit = 12, 15
            dataset.save_as(path)
        with pytest.raises(PixelsUndecodable, match="no meaning in compressed pixels"):
            read(make)

    def test_values_of_more_bits_than_the_header_says_are_refused(self, make, box):
        # An image that is smooth only with the bits that the header leaves out.
        ramp = np.broadcast_to(np.linspace(0, 9000, box.shape[2]), box.shape)
        make.classic(box, pixels=np.rint(ramp), BitsStored=12, HighBit=11)
        with pytest.raises(PixelsUndecodable, match="BitsStored"):
            read(make)

    @pytest.mark.parametrize(("signed", "low"), [(0, -20), (1, 32768 - 20)])
    def test_values_of_the_other_sign_than_the_header_says_are_refused(self, make, box, signed, low):
        # Noise around the value at which the number turns round.
        values = low + np.random.default_rng(5).integers(0, 40, box.shape)
        make.classic(box, pixels=(values & 0xFFFF).astype("<u2").view("<i2"), PixelRepresentation=signed)
        with pytest.raises(PixelsUndecodable, match="PixelRepresentation"):
            read(make)
        make.classic(box, pixels=(values & 0xFFFF).astype("<u2").view("<i2"), PixelRepresentation=1 - signed)
        np.testing.assert_array_equal(read(make).pixels, values)

    def test_a_single_value_for_nothing_is_no_sign(self, make, box):
        values = np.where(self.VALUES % 7, self.VALUES + 1000, 65535)
        make.classic(box, pixels=values)
        np.testing.assert_array_equal(read(make).pixels, values)

    def test_a_missing_high_bit_is_the_usual_one(self, make, box):
        make.classic(box, pixels=self.VALUES, BitsStored=12, change=lambda dataset, number: dataset.pop("HighBit"))
        np.testing.assert_array_equal(read(make).pixels, self.VALUES)

    def test_twelve_bits_a_pixel_are_refused(self, make, box):
        make.classic(box, pixels=self.VALUES, BitsAllocated=12, BitsStored=12, HighBit=11)
        with pytest.raises(PixelsUndecodable, match="12 bits a pixel"):
            read(make)

    def test_a_modality_lut_is_refused(self, make, box):
        table = Dataset()
        table.add_new(0x00283002, "US", [4, 0, 16])
        table.add_new(0x00283006, "US", [0, 10, 20, 30])
        table.ModalityLUTType = "US"
        make.classic(box, ModalityLUTSequence=[table])
        with pytest.raises(PixelsUndecodable, match="Modality LUT"):
            read(make)


class TestSyntaxes:
    @pytest.mark.parametrize(
        ("written", "said"),
        [
            (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
            (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
            (ExplicitVRLittleEndian, JPEG2000Lossless),
            (ExplicitVRLittleEndian, RLELossless),
            (ImplicitVRLittleEndian, JPEGLSLossless),
        ],
    )
    def test_plain_pixels_are_read_whatever_their_meta_information_says(self, make, box, written, said):
        make.syntax = written
        paths = make.classic(box)
        expected = read(make).pixels
        for path in paths:
            say_syntax(path, written, said)
        np.testing.assert_array_equal(read(make).pixels, expected)

    @pytest.mark.parametrize("written", [JPEG2000Lossless, RLELossless, JPEGLSLossless])
    @pytest.mark.parametrize("said", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
    def test_compressed_pixels_under_another_syntax_are_refused(self, make, box, written, said):
        if written == said:
            return
        make.syntax = written
        for path in make.classic(box):
            say_syntax(path, written, said)
        with pytest.raises(PixelsUndecodable, match="cannot be decoded"):
            read(make)

    @pytest.mark.parametrize("uid", ["1.3.46.670589.33.1.4.1", "1.2.840.10008.1.2.99", "1.2.840.10008.1.2.1.98"])
    def test_unknown_ones_are_refused_by_their_uid(self, make, box, uid):
        for path in make.classic(box):
            say_syntax(path, make.syntax, uid)
        with pytest.raises(PixelsUndecodable, match=uid.replace(".", r"\.")):
            read(make)

    def test_big_endian_pixels_of_ge(self, make, box):
        make.syntax = ImplicitVRLittleEndian
        paths = make.classic(box)
        expected = read(make).pixels
        for path in paths:
            dataset = dcmread(path)
            dataset.PixelData = dataset.pixel_array.byteswap().tobytes()
            dataset.file_meta.TransferSyntaxUID = GE_BIG_ENDIAN_PIXELS
            dataset.save_as(path, implicit_vr=True, little_endian=True)
        np.testing.assert_array_equal(read(make).pixels, expected)

    def test_pixels_in_another_byte_order_than_their_syntax_are_refused(self, make, box):
        smooth = np.rint(1000 + 900 * np.sin(np.arange(box.shape[2]) / 6))
        make.classic(box, pixels=np.broadcast_to(smooth, box.shape).astype("<u2").byteswap())
        with pytest.raises(PixelsUndecodable, match="byte order"):
            read(make)

    def test_eight_bit_values_in_the_upper_byte_are_no_other_byte_order(self, make, box):
        pixels = np.rint(with_border(box.shape, 0) / 8) * 256
        make.classic(box, pixels=pixels)
        np.testing.assert_array_equal(read(make).pixels, pixels)

    def test_lossless_jpeg_of_signed_twelve_bits(self, make, box, program):
        values = np.random.default_rng(2).integers(-900, 900, box.shape)
        for path in make.classic(box, pixels=values & 0xFFF, PixelRepresentation=1, BitsStored=12, HighBit=11):
            subprocess.run([program("dcmcjpeg"), "+e1", str(path), str(path)], check=True)
        np.testing.assert_array_equal(read(make).pixels, values)
