"""One DICOM file's header, read once and without its pixels. Knows no series and no roles."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

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

_PIXEL_TAGS = {(0x7FE0, 0x0010): False, (0x7FE0, 0x0008): True, (0x7FE0, 0x0009): True}
"""Tags of pixels, and whether they are floating point."""
_MAX_INFLATED = 2**30
"""Bytes that a deflated file may grow to: a guard against files made to exhaust memory."""
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN")


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


class _BoundedReader(io.BufferedReader):
    """A file that never reads past its end, so that a damaged length allocates nothing."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@dataclass(frozen=True, slots=True)
class Header:
    """Raw elements of one file, with forgiving access: what is absent or malformed reads as None, "" or ()."""

    dataset: Dataset
    transfer_syntax_uid: str
    pixels: PixelPlace | None

    def text(self, tag: int) -> str:
        """A short string without its padding, in the default repertoire."""
        return _as_text(_raw(self.dataset, tag)).strip(" \0")

    def texts(self, tag: int) -> tuple[str, ...]:
        """A multi-valued string."""
        text = _as_text(_raw(self.dataset, tag))
        return tuple(part.strip(" \0") for part in text.split("\\")) if text.strip(" \0") else ()

    def free_text(self, tag: int) -> str:
        """A string in the file's character set, blanks kept."""
        value = _raw(self.dataset, tag)
        if not isinstance(value, bytes):
            return _as_text(value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown character set must not stop a study
            try:
                encodings = convert_encodings(list(self.texts(0x00080005)) or None)
                return decode_bytes(value, encodings, {ord(char) for char in "\\\r\n\t\f"}).rstrip("\0")
            except PARSER_FAILURES:
                return value.decode("latin-1").rstrip("\0")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Finite numbers, written as text or binary; () where one of them is none."""
        return _as_numbers(self.dataset, tag)

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
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                element = self.dataset.get(tag, None)
                value = None if element is None else element.value
                found = list(value) if isinstance(value, Sequence) else []
        except PARSER_FAILURES:
            found = []
        return tuple(Header(item, self.transfer_syntax_uid, None) for item in found)


def _raw(dataset: Dataset, tag: int) -> object:
    try:
        element = dataset.get_item(tag)
    except PARSER_FAILURES:
        return None
    return None if element is None else element.value


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        return "\\".join(str(part) for part in value)
    return str(value)


_BINARY_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def _as_numbers(dataset: Dataset, tag: int) -> tuple[float, ...]:
    try:
        element = dataset.get_item(tag)
        if element is None or element.value is None:
            return ()
        value: object = element.value
        if isinstance(value, bytes):
            vr = element.VR
            if vr is None or vr in ("UN", "US or SS"):
                vr = _PRIVATE_NUMBER_VRS.get(tag) or pydicom.datadict.dictionary_VR(tag)
            code = _BINARY_NUMBERS.get("US" if vr == "US or SS" else str(vr))
            if code is not None:
                order = "<" if getattr(element, "is_little_endian", True) else ">"
                size = struct.calcsize(order + code)
                value = struct.unpack(f"{order}{len(value) // size}{code}", value[: len(value) // size * size])
            else:
                value = [part for part in value.decode("latin-1").strip(" \0").split("\\") if part.strip()]
        parts = value if isinstance(value, (list, tuple)) or hasattr(value, "__iter__") else [value]
        numbers = tuple(float(part) for part in parts)
    except PARSER_FAILURES:
        return ()
    return numbers if all(-1e300 < number < 1e300 for number in numbers) else ()


_PRIVATE_NUMBER_VRS = {
    0x0019100C: "IS",  # Siemens b-value
    0x0019100E: "FD",  # Siemens gradient direction
    0x00431039: "IS",  # GE b-value, first of four
    0x20011003: "FL",  # Philips b-value
    0x00651009: "FD",  # United Imaging b-value
    **dict.fromkeys((0x001910BB, 0x001910BC, 0x001910BD), "DS"),  # GE gradient direction
    **dict.fromkeys((0x200510B0, 0x200510B1, 0x200510B2), "FL"),  # Philips gradient direction
}


def read_header(path: Path, tags: list[int]) -> Header:
    """The elements `tags` of a file, and where its pixels lie. Raises NotDicom."""
    try:
        size = path.stat().st_size
        with io.FileIO(path) as raw, _BoundedReader(raw, size) as stream:
            syntax_known = _looks_like_dicom(stream)
            stream.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warns of what we read forgivingly
                dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=not syntax_known, specific_tags=tags)
            syntax = _transfer_syntax(dataset)
            if syntax == DeflatedExplicitVRLittleEndian:
                return _deflated(inflate(path), tags)
            return Header(dataset, syntax, _find_pixels(stream, size, dataset))
    except NotDicom:
        raise
    except OSError as exc:
        raise NotDicom(f"cannot be read ({exc.strerror or type(exc).__name__})", damaged=True) from exc
    except PARSER_FAILURES as exc:
        raise NotDicom("DICOM, but cut short or damaged inside its header", damaged=True) from exc


def _deflated(inflated: bytes, tags: list[int]) -> Header:
    stream = io.BytesIO(inflated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=tags)
    return Header(dataset, str(DeflatedExplicitVRLittleEndian), _find_pixels(stream, len(inflated), dataset))


def _looks_like_dicom(stream: io.BufferedReader) -> bool:
    """True with a preamble, False for plain elements without one. Raises NotDicom for anything else."""
    start = stream.read(132)
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


def _transfer_syntax(dataset: FileDataset) -> str:
    named = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
    if named:
        return named
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(pydicom.uid.ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _find_pixels(stream: io.BufferedIOBase, size: int, dataset: FileDataset) -> PixelPlace | None:
    """pydicom stops at the tag of the pixels; their length tells whether all of them are there."""
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    start = stream.read(12)
    if len(start) < 12:
        return None
    group, element = struct.unpack(order + "HH", start[:4])
    if (group, element) not in _PIXEL_TAGS:
        return None
    is_float = _PIXEL_TAGS[group, element]
    if implicit or start[4:6] not in _LONG_VRS:
        length, offset = struct.unpack(order + "L", start[4:8])[0], stream.tell() - 4
    else:
        length, offset = struct.unpack(order + "L", start[8:12])[0], stream.tell()
    there = size - offset
    if length != _UNDEFINED:
        return PixelPlace(offset, min(length, there), length <= there and length > 0, False, is_float)
    return PixelPlace(offset, there, _items_complete(stream, offset, size), True, is_float)


def _items_complete(stream: io.BufferedIOBase, offset: int, size: int) -> bool:
    """Whether encapsulated pixels (PS3.5 A.4) run to their sequence delimiter."""
    items = 0
    while offset + 8 <= size:
        stream.seek(offset)
        group, element, length = struct.unpack("<HHL", stream.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            return items > 1  # the first item is the offset table
        if (group, element) != (0xFFFE, 0xE000):
            return False
        items += 1
        offset += 8 + length
    # Some archives drop the delimiter; the last item is whole where it ends with the file.
    return items > 1 and offset == size


def inflate(path: Path) -> bytes:
    """The data set of a deflated file (PS3.5 A.5), without preamble and file meta information. Raises NotDicom."""
    with path.open("rb") as stream:
        start = stream.read(144)
        # PS3.10 7.1: the meta information starts with its own length in (0002,0000), a UL.
        length = int.from_bytes(start[140:144], "little")
        stream.seek(144 + length)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(stream.read(_MAX_INFLATED), _MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise NotDicom(f"a deflated file of more than {_MAX_INFLATED // 2**20} MiB", damaged=True)
    return inflated
