"""One DICOM file's header, read once and without its pixels. Knows no series and no roles."""

import io
import mmap
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.elements import ITEM, SEQUENCE_END, UNDEFINED, Buffer, Elements, Encoding, Irregular, walk

PARSER_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    pydicom.errors.BytesLengthException,
    pydicom.errors.InvalidDicomError,
)
"""What a damaged header makes pydicom raise."""

_MAX_INFLATED = 2**28
"""Bytes that a deflated file may grow to: a guard against files made to exhaust memory. 500 slices of 512 x 512 fit."""
_SMALL_FILE = 2**22
"""Bytes up to which a file is read whole; of a larger one only the pages are read that the header takes."""
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN")
_NUMBER_CODES = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_PRIVATE_NUMBER_VRS = {
    0x0019100C: "IS",  # Siemens b-value
    0x0019100E: "FD",  # Siemens gradient direction
    0x00431039: "IS",  # GE b-value, first of four
    0x20011003: "FL",  # Philips b-value
    0x00651009: "FD",  # United Imaging b-value
    **dict.fromkeys((0x001910BB, 0x001910BC, 0x001910BD), "DS"),  # GE gradient direction
    **dict.fromkeys((0x200510B0, 0x200510B1, 0x200510B2), "FL"),  # Philips gradient direction
}
_CHARACTER_SET, _TRANSFER_SYNTAX, _FLOAT_PIXELS = 0x00080005, 0x00020010, (0x7FE00008, 0x7FE00009)


class NotDicom(ValueError):
    """A file is no DICOM object with an identity; the text says why."""

    def __init__(self, reason: str, damaged: bool = False) -> None:
        super().__init__(reason)
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class PixelPlace:
    """Where the pixels of a file lie."""

    offset: int
    """Of their first byte, from the start of the file or, where it is deflated, of what `inflate` gives."""
    length: int
    """In bytes as far as they are there; for compressed pixels with their item headers."""
    complete: bool
    """Whether all that the header promises is there."""
    encapsulated: bool
    is_float: bool


@dataclass(frozen=True, slots=True)
class Header:
    """Elements of one data set, with forgiving access: what is absent or malformed reads as None, "" or ()."""

    elements: Elements
    little_endian: bool
    transfer_syntax_uid: str
    pixels: PixelPlace | None

    def text(self, tag: int) -> str:
        """A short string without its padding, in the default repertoire."""
        return self._bytes(tag).decode("latin-1").strip(" \0")

    def texts(self, tag: int) -> tuple[str, ...]:
        """A multi-valued string."""
        text = self.text(tag)
        return tuple(part.strip(" \0") for part in text.split("\\")) if text else ()

    def free_text(self, tag: int) -> str:
        """A string in the file's character set, blanks kept."""
        value = self._bytes(tag)
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").rstrip("\0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown character set must not stop a study
            try:
                encodings = convert_encodings(list(self.texts(_CHARACTER_SET)) or None)
                return decode_bytes(value, encodings, {ord(char) for char in "\\\r\n\t\f"}).rstrip("\0")
            except PARSER_FAILURES:
                return value.decode("latin-1").rstrip("\0")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Finite numbers, written as text or binary; () where one of them is none."""
        value = self._bytes(tag)
        if not value:
            return ()
        try:
            code = _NUMBER_CODES.get(self._number_vr(tag))
            if code is None:
                numbers = tuple(
                    float(part) for part in value.decode("latin-1").strip(" \0").split("\\") if part.strip()
                )
            else:
                layout = struct.Struct(("<" if self.little_endian else ">") + code)
                whole = len(value) // layout.size * layout.size
                numbers = tuple(float(one) for (one,) in layout.iter_unpack(value[:whole]))
        except (ValueError, KeyError, struct.error):
            return ()
        return numbers if all(-1e300 < number < 1e300 for number in numbers) else ()

    def number(self, tag: int) -> float | None:
        """The first of `numbers`."""
        values = self.numbers(tag)
        return values[0] if values else None

    def integer(self, tag: int) -> int | None:
        """The first of `numbers` as an integer."""
        value = self.number(tag)
        return int(value) if value is not None and abs(value) < 2**53 else None

    def items(self, tag: int) -> tuple["Header", ...]:
        """The items of a sequence."""
        value = self.elements.get(tag, ("", b""))[1]
        if not isinstance(value, list):
            return ()
        return tuple(Header(item, self.little_endian, self.transfer_syntax_uid, None) for item in value)

    def _bytes(self, tag: int) -> bytes:
        value = self.elements.get(tag, ("", b""))[1]
        return value if isinstance(value, bytes) else b""

    def _number_vr(self, tag: int) -> str:
        vr = self.elements[tag][0]
        if vr in ("", "UN"):
            vr = _PRIVATE_NUMBER_VRS.get(tag) or pydicom.datadict.dictionary_VR(tag)
        return "US" if vr == "US or SS" else vr


def read_header(path: Path, tags: Iterable[int]) -> Header:
    """The elements `tags` of a file, and where its pixels lie. Raises NotDicom."""
    wanted = frozenset(tags) | {_CHARACTER_SET}
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            if size <= _SMALL_FILE:
                return _read(stream.read(), wanted)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                return _read(pages, wanted)
    except NotDicom:
        raise
    except OSError as exc:
        raise NotDicom(f"cannot be read ({exc.strerror or type(exc).__name__})", damaged=True) from exc
    except PARSER_FAILURES as exc:
        raise NotDicom("DICOM, but cut short or damaged inside its header", damaged=True) from exc


def inflate(path: Path) -> bytes:
    """The data set of a deflated file, without preamble and file meta information. Raises NotDicom."""
    return _inflated(path.read_bytes())


def _read(buffer: Buffer, wanted: frozenset[int]) -> Header:
    has_preamble = _looks_like_dicom(buffer)
    if has_preamble:
        try:
            return _walked(buffer, wanted)
        except Irregular:
            pass
    return _parsed(buffer, wanted, has_preamble)


def _looks_like_dicom(buffer: Buffer) -> bool:
    """True with a preamble, False for plain elements without one. Raises NotDicom for anything else."""
    start = buffer[:132]
    if not start:
        raise NotDicom("an empty file")
    if start[128:132] == b"DICM":
        return True
    # Without a preamble the first element is of group 0002 or 0008, little endian in practice (PS3.10 section 7).
    if len(start) >= 132 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0:
        explicit = start[4:6].isalpha() and start[4:6].isupper()
        if explicit or int.from_bytes(start[4:8], "little") <= 128:
            return False
    raise NotDicom("not a DICOM file")


def _meta_end(buffer: Buffer) -> int:
    """Where the file meta information ends. Raises Irregular."""
    # PS3.10 7.1: it starts with its own length in (0002,0000), a UL.
    if buffer[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise Irregular("no length of the file meta information")
    return 144 + int.from_bytes(buffer[140:144], "little")


def _walked(buffer: Buffer, wanted: frozenset[int]) -> Header:
    """The header by the quick way. Raises Irregular."""
    start = _meta_end(buffer)
    meta, _ = walk(buffer[:start], 132, Encoding(implicit=False, little_endian=True), frozenset({_TRANSFER_SYNTAX}))
    value = meta.get(_TRANSFER_SYNTAX, ("", b""))[1]
    syntax = value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""
    if not syntax:
        raise Irregular("no transfer syntax")
    if syntax == DeflatedExplicitVRLittleEndian:
        buffer, start = _inflated(buffer), 0
    encoding = Encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    elements, end = walk(buffer, start, encoding, wanted)
    return Header(elements, encoding.little_endian, syntax, _find_pixels(buffer, end, encoding))


def _parsed(buffer: Buffer, wanted: frozenset[int], has_preamble: bool) -> Header:
    """The header by pydicom, which copes with much that is not well formed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what we read forgivingly
        stream = io.BytesIO(buffer) if isinstance(buffer, bytes) else buffer
        options = {"stop_before_pixels": True, "specific_tags": list(wanted)}
        dataset = pydicom.dcmread(stream, force=not has_preamble, **options)  # type: ignore[arg-type]
        implicit, little = dataset.original_encoding
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
        if syntax == DeflatedExplicitVRLittleEndian:
            buffer = _inflated(buffer)
            stream = io.BytesIO(buffer)
            dataset = pydicom.dcmread(stream, force=True, **options)  # type: ignore[arg-type]
        encoding = Encoding(bool(implicit), bool(little))
        elements = _elements(dataset)
    if not syntax:
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = str(ImplicitVRLittleEndian if implicit else explicit)
    return Header(elements, encoding.little_endian, syntax, _find_pixels(buffer, stream.tell(), encoding))


def _elements(dataset: Dataset) -> Elements:
    """What pydicom read, as bytes; whatever cannot be had is left out."""
    found: Elements = {}
    for tag in list(dataset.keys()):
        try:
            element = dataset.get_item(tag)
            assert element is not None
            value = element.value
            vr = str(element.VR or "") or (pydicom.datadict.dictionary_VR(tag) if not tag.is_private else "")
            if vr == "SQ" or isinstance(value, Sequence):
                found[int(tag)] = ("SQ", [_elements(item) for item in dataset[tag].value])
            elif isinstance(value, bytes):
                found[int(tag)] = (vr, value)
            elif int(tag) == _CHARACTER_SET and value:  # the one element that pydicom converts at once
                found[int(tag)] = ("CS", "\\".join([value] if isinstance(value, str) else value).encode("latin-1"))
        except PARSER_FAILURES:
            continue
    return found


def _find_pixels(buffer: Buffer, place: int, encoding: Encoding) -> PixelPlace | None:
    """The walk stops at the element of the pixels; its length tells whether all of them are there."""
    start, order = buffer[place : place + 12], encoding.order
    if len(start) < 12:
        return None
    group, element = struct.unpack(order + "HH", start[:4])
    tag = group << 16 | element
    if tag >> 16 != 0x7FE0:
        return None
    if encoding.implicit or start[4:6] not in _LONG_VRS:
        length, offset = struct.unpack(order + "L", start[4:8])[0], place + 8
    else:
        length, offset = struct.unpack(order + "L", start[8:12])[0], place + 12
    there = len(buffer) - offset
    is_float = tag in _FLOAT_PIXELS
    if length != UNDEFINED:
        return PixelPlace(offset, min(length, there), 0 < length <= there, False, is_float)
    return PixelPlace(offset, there, _fragments_complete(buffer, offset), True, is_float)


def _fragments_complete(buffer: Buffer, place: int) -> bool:
    """Whether encapsulated pixels (PS3.5 A.4) run to their sequence delimiter."""
    items = 0
    while place + 8 <= len(buffer):
        group, element, length = struct.unpack("<HHL", buffer[place : place + 8])
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return items > 1  # the first item is the offset table
        if tag != ITEM:
            return False
        items += 1
        place += 8 + length
    # Some archives drop the delimiter; the last item is whole where it ends with the file.
    return items > 1 and place == len(buffer)


def _inflated(buffer: Buffer) -> bytes:
    """PS3.5 A.5: what follows the file meta information is one raw deflate stream."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(buffer[_meta_end(buffer) :], _MAX_INFLATED)
    except Irregular as exc:
        raise NotDicom("a deflated file without the length of its meta information", damaged=True) from exc
    if inflater.unconsumed_tail:
        raise NotDicom(f"a deflated file of more than {_MAX_INFLATED // 2**20} MiB", damaged=True)
    return inflated
