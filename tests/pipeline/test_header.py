"""Headers read through the guard have the values that pydicom reads without it; hostile ones are refused."""

import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pipeline import header as module
from pipeline.header import Header, NotDicom, read_header
from pipeline.scan import CONTRAST_AGENT, HEADER_TAGS, MANUFACTURER, SERIES_DESCRIPTION, scan

TAGS = frozenset(HEADER_TAGS)
PATIENT_ID = 0x00100020


def assert_same(header: Header, dataset: Dataset) -> None:
    """Check that every wanted element has the value that pydicom converts it to."""
    for tag in TAGS:
        if tag not in dataset:
            assert (header.texts(tag), header.numbers(tag), header.items(tag)) == ((), (), ())
            continue
        vr, value = dataset[tag].VR, dataset[tag].value
        values = list(value) if isinstance(value, MultiValue | list) else [] if value in (None, "", b"") else [value]
        if vr == "SQ":
            items = header.items(tag)
            assert len(items) == len(value)
            for ours, theirs in zip(items, value, strict=True):
                assert_same(ours, theirs)
        elif vr in ("DS", "IS", "US", "SS", "UL", "SL", "FD", "FL"):
            assert header.numbers(tag) == tuple(float(one) for one in values), hex(tag)
        elif vr not in ("UN", "OB"):
            assert header.texts(tag) == tuple(str(one).strip() for one in values), hex(tag)


@pytest.mark.parametrize(
    "syntax",
    [
        *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
        *(DeflatedExplicitVRLittleEndian, RLELossless),
    ],
)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_every_encoding_reads_as_pydicom_reads_it(make, box, syntax, undefined_length):
    def nest(dataset: Dataset, number: int) -> None:
        inner, outer, code = Dataset(), Dataset(), Dataset()
        code.CodeValue, code.CodeMeaning = "um2/s", "unit"
        inner.MeasurementUnitsCodeSequence = [code]
        inner.RealWorldValueSlope, inner.RealWorldValueIntercept = 1e-6, 0.0
        outer.ReferencedImageSequence = [inner, Dataset()]
        dataset.RealWorldValueMappingSequence = [inner]
        dataset.ReferencedStudySequence = [outer, outer]  # not wanted
        for tag in ("RealWorldValueMappingSequence", "ReferencedStudySequence"):
            dataset[tag].is_undefined_length = undefined_length

    make.syntax = syntax
    paths = make.classic(box, change=nest, SpecificCharacterSet="ISO_IR 192", SeriesDescription="T1 für KM")
    for path in (paths[0], make.enhanced(box)):
        header = read_header(path, TAGS)
        assert_same(header, dcmread(path))
        assert header.transfer_syntax_uid == syntax
        assert header.pixels is not None
        assert (header.pixels.complete, header.pixels.encapsulated) == (True, syntax == RLELossless)
    mapping = read_header(paths[0], TAGS).items(0x00409096)[0]
    assert mapping.items(0x004008EA)[0].text(0x00080100) == "um2/s"
    assert mapping.numbers(0x00409225) == (1e-6,)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of values that it reads forgivingly
def test_real_files_read_as_pydicom_reads_them(shared_data):
    for path in sorted((shared_data / "real").rglob("*")):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            assert_same(read_header(path, TAGS), dcmread(path, stop_before_pixels=True))


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("GB18030", "脑 平扫+增强 乗一"),  # the second bytes of some are backslashes in ASCII
        ("GBK", "頭部 一乗"),
        ("ISO_IR 192", "мозг 頭部 für"),
        ("ISO_IR 144", "мозг с контрастом"),
        ("ISO_IR 13", "ｱﾀﾏ"),
        (["", "ISO 2022 IR 149"], "뇌 조영"),
        (["", "ISO 2022 IR 87"], "頭部 造影"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ｱﾀﾏ 頭部"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "für мозг"),
    ],
)
def test_text_is_read_in_its_character_set(make, box, character_set, text):
    def name(dataset: Dataset, number: int) -> None:
        dataset.Manufacturer = dataset.PatientID = dataset.ContrastBolusAgent = text

    path = make.classic(box, change=name, SpecificCharacterSet=character_set, SeriesDescription=text)[0]
    header = read_header(path, (*TAGS, PATIENT_ID))
    for tag in (SERIES_DESCRIPTION, MANUFACTURER, CONTRAST_AGENT, PATIENT_ID):
        assert header.text(tag) == text
        assert header.texts(tag) == (text,)


def test_items_inherit_the_character_set(make, box):
    def nest(dataset: Dataset, number: int) -> None:
        agent = Dataset()
        agent.CodeMeaning = "钆喷酸"
        dataset.ContrastBolusAgentSequence = [agent]

    path = make.classic(box, change=nest, SpecificCharacterSet="GB18030")[0]
    assert read_header(path, TAGS).items(0x00180012)[0].text(0x00080104) == "钆喷酸"


def test_signed_pixels_stay_signed_when_a_sequence_is_read_first(make, box):
    def nest(dataset: Dataset, number: int) -> None:
        dataset.ContrastBolusAgentSequence = [Dataset()]

    path = make.classic(box, change=nest, PixelRepresentation=1)[0]
    header = read_header(path, TAGS)
    assert header.integer(0x00280103) == 1
    assert len(header.items(0x00180012)) == 1
    assert header.integer(0x00280103) == 1
    assert scan([path]).studies[0].series[0].instances[0].samples.signed


@pytest.mark.parametrize("character_set", ["ISO_IR 999", "\\\\", "ISO 2022 IR 149\\GB18030\\nonsense"])
def test_text_in_an_unknown_character_set_is_still_read(make, box, character_set):
    path = make.classic(box, SeriesDescription="FLAIR für")[0]
    content = path.read_bytes()
    element = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", len(character_set)) + character_set.encode()
    place = content.index(struct.pack("<HH2s", 0x0008, 0x0008, b"CS"))
    path.write_bytes(content[:place] + element + content[place:])
    assert read_header(path, TAGS).text(SERIES_DESCRIPTION).startswith("FLAIR")


def test_truncated_pixels_are_incomplete(make, box):
    path = make.classic(box)[0]
    whole = read_header(path, TAGS).pixels
    assert whole is not None
    assert (whole.complete, whole.length, whole.offset + whole.length) == (True, 36 * 40 * 2, path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    cut = read_header(path, TAGS).pixels
    assert cut is not None
    assert (cut.complete, cut.length) == (False, 36 * 40 * 2 - 1)


def test_encapsulated_pixels_are_complete_with_or_without_their_delimiter(make, box):
    make.syntax = RLELossless
    path = make.classic(box)[0]
    content = path.read_bytes()
    assert content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    for cut, complete in ((0, True), (1, False), (4, False), (8, True), (9, False), (12, False)):
        path.write_bytes(content[: len(content) - cut])
        pixels = read_header(path, TAGS).pixels
        assert pixels is not None
        assert (pixels.complete, pixels.encapsulated) == (complete, True)


def test_a_large_file_is_read_like_a_small_one(make, box, monkeypatch):
    path, cut = make.enhanced(box), make.classic(box)[0]
    too_long = struct.pack("<HH2sHL", 0x0029, 0x1010, b"OB", 0, 0x7FFFFFF0)
    cut.write_bytes(cut.read_bytes().replace(struct.pack("<HH", 0x7FE0, 0x0010), too_long))
    small = read_header(path, TAGS)
    monkeypatch.setattr(module, "_SMALL_FILE", 100)
    large = read_header(path, TAGS)
    assert large.pixels == small.pixels
    assert_same(large, dcmread(path))
    assert read_header(cut, TAGS).pixels is None
    assert_same(read_header(cut, TAGS), dcmread(cut))


def with_elements(path: Path, elements: bytes) -> Path:
    """Put encoded elements before the first element of group 0008."""
    content = path.read_bytes()
    place = content.index(struct.pack("<HH2s", 0x0008, 0x0008, b"CS"))
    path.write_bytes(content[:place] + elements + content[place:])
    return path


def sequence(length: int) -> bytes:
    return struct.pack("<HH2sHL", 0x0008, 0x0006, b"SQ", 0, length)


UNDEFINED = 0xFFFFFFFF
ITEM_END, SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)


@pytest.mark.parametrize(
    "elements",
    [
        (ITEM + sequence(UNDEFINED)) * 100_000,
        struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 100_000,
        (ITEM + struct.pack("<HH2sHL", 0x0008, 0x0009, b"OB", 0, UNDEFINED) + ITEM_END) * 20_000,
    ],
    ids=["nested without end", "many items", "many values without end"],
)
@pytest.mark.parametrize("large", [False, True])
def test_costly_headers_are_refused(make, box, monkeypatch, elements, large):
    monkeypatch.setattr(module, "_MOST_READS", 50_000)
    monkeypatch.setattr(module, "_MOST_BYTES", 2**24)
    monkeypatch.setattr(module, "_SMALL_FILE", 100 if large else 2**22)
    path = with_elements(make.classic(box)[0], sequence(UNDEFINED) + elements)
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(NotDicom, match="cut short or damaged"):
        read_header(path, TAGS)
    assert time.monotonic() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 96 << 20
    tracemalloc.stop()


def test_a_sequence_with_too_many_items_reads_as_empty(make, box, monkeypatch):
    monkeypatch.setattr(module, "_MOST_READS", 50_000)
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 100_000
    mapping = struct.pack("<HH2sHL", 0x0040, 0x9096, b"SQ", 0, len(items)) + items
    path = make.classic(box)[0]
    content = path.read_bytes()
    place = content.index(struct.pack("<HH", 0x7FE0, 0x0010))
    path.write_bytes(content[:place] + mapping + content[place:])
    assert read_header(path, TAGS).items(0x00409096) == ()


@pytest.mark.parametrize(
    "elements",
    [
        b"\x08\x00\x06\x00QQ\x02\x00MR",  # no such value representation
        b"\x10\x00\x10\x00PN\x02\x00ab",  # out of order
        sequence(8) + b"\x08\x00\x60\x00\x00\x00\x00\x00",  # no item in a sequence
        sequence(UNDEFINED) + (ITEM + sequence(UNDEFINED)) * 40 + (SEQUENCE_END + ITEM_END) * 40 + SEQUENCE_END,
    ],
)
def test_malformed_elements_do_not_hide_others(make, box, elements):
    path = make.classic(box, SeriesDescription="T1 KM")[0]
    assert read_header(with_elements(path, elements), TAGS).text(SERIES_DESCRIPTION) == "T1 KM"


def test_a_deflated_file_that_would_fill_memory_is_refused(make, box, monkeypatch):
    make.syntax = DeflatedExplicitVRLittleEndian
    path = make.classic(box)[0]
    assert isinstance(read_header(path, TAGS), Header)
    monkeypatch.setattr(module, "_MAX_INFLATED", 1000)
    with pytest.raises(NotDicom, match="more than"):
        read_header(path, TAGS)
