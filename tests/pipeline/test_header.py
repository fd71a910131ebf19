"""The quick walk over a header and pydicom's full parse say the same."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pipeline import header as module
from pipeline.elements import Elements, Encoding, Irregular, walk
from pipeline.header import Header, NotDicom, read_header
from pipeline.scan import HEADER_TAGS

TAGS = frozenset(HEADER_TAGS)


def comparable(elements: Elements) -> dict[int, object]:
    """Values without representations; pydicom leaves empty ones out, and keeps the padding of character sets out."""
    return {
        tag: [comparable(item) for item in value] if isinstance(value, list) else value.strip()
        for tag, (_, value) in sorted(elements.items())
        if value
    }


def assert_both_ways_agree(path: Path) -> None:
    content = path.read_bytes()
    quick, full = module._walked(content, TAGS), module._parsed(content, TAGS, has_preamble=True)
    assert comparable(quick.elements) == comparable(full.elements)
    assert (quick.pixels, quick.transfer_syntax_uid) == (full.pixels, full.transfer_syntax_uid)
    for tag in TAGS:
        assert (quick.numbers(tag), quick.texts(tag), len(quick.items(tag))) == (
            *(full.numbers(tag), full.texts(tag), len(full.items(tag))),
        ), hex(tag)


@pytest.mark.parametrize(
    "syntax",
    [
        *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian),
        *(DeflatedExplicitVRLittleEndian, RLELossless),
    ],
)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_both_ways_agree(make, box, syntax, undefined_length):
    def nest(dataset: Dataset, number: int) -> None:
        inner, outer, code = Dataset(), Dataset(), Dataset()
        code.CodeValue, code.CodeMeaning = "um2/s", "unit"
        inner.MeasurementUnitsCodeSequence = [code]
        inner.RealWorldValueSlope, inner.RealWorldValueIntercept = 1e-6, 0.0
        outer.ReferencedImageSequence = [inner, Dataset()]
        dataset.RealWorldValueMappingSequence = [inner]
        dataset.ReferencedStudySequence = [outer, outer]  # not wanted, to be passed over
        for tag in ("RealWorldValueMappingSequence", "ReferencedStudySequence"):
            dataset[tag].is_undefined_length = undefined_length

    make.syntax = syntax
    paths = make.classic(box, change=nest, SpecificCharacterSet="ISO_IR 192", SeriesDescription="T1 für KM")
    for path in (paths[0], make.enhanced(box)):
        assert_both_ways_agree(path)
    unit = read_header(paths[0], TAGS).items(0x00409096)[0].items(0x004008EA)[0].text(0x00080100)
    assert unit == "um2/s"


def test_both_ways_agree_on_real_files(shared_data):
    for path in sorted((shared_data / "real").rglob("*")):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            assert_both_ways_agree(path)


def test_pixels_are_complete_where_the_file_keeps_its_promise(make, box):
    path = make.classic(box)[0]
    whole = read_header(path, TAGS).pixels
    assert whole is not None
    assert (whole.complete, whole.length, whole.offset + whole.length) == (True, 36 * 40 * 2, path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    cut = read_header(path, TAGS).pixels
    assert cut is not None
    assert (cut.complete, cut.length) == (False, 36 * 40 * 2 - 1)


def test_a_large_file_is_read_alike(make, box, monkeypatch):
    path = make.enhanced(box)
    small = read_header(path, TAGS)
    monkeypatch.setattr(module, "_SMALL_FILE", 100)
    assert read_header(path, TAGS) == small


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00\x60\x00QQ\x02\x00MR",  # no such value representation
        b"\x08\x00\x60\x00CS\xff\xffMR",  # longer than the file
        b"\x10\x00\x10\x00PN\x02\x00ab\x08\x00\x60\x00CS\x02\x00MR",  # out of order
        b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\x08\x00\x60\x00\x00\x00\x00\x00",  # no item in a sequence
        b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff"
        + b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff" * 40,
    ],
)
def test_what_is_not_well_formed_is_left_to_pydicom(content):
    with pytest.raises(Irregular):
        walk(content, 0, Encoding(implicit=False, little_endian=True), frozenset())


def test_a_deflated_file_that_would_fill_memory_is_refused(make, box, monkeypatch):
    make.syntax = DeflatedExplicitVRLittleEndian
    path = make.classic(box)[0]
    assert isinstance(read_header(path, TAGS), Header)
    monkeypatch.setattr(module, "_MAX_INFLATED", 1000)
    with pytest.raises(NotDicom, match="more than"):
        read_header(path, TAGS)
