"""Read the header of one DICOM file, once and without its pixels."""

import io
import mmap
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.charset import decode_bytes
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import parse_fragments
from pydicom.filereader import read_partial, read_sequence
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.guarded_stream import PARSER_FAILURES, DeflatedDataSet, guard_stream, inflate

_MAX_INFLATED = 2**28
"""Bytes that a deflated file may grow to: a guard against files made to exhaust memory. 500 slices of 512 x 512 fit."""
_MOST_READS, _MOST_BYTES = 2_000_000, 2**28
"""Bounds for parsing one header. An enhanced image of 10,000 frames takes about 1,500,000 reads and 20 MiB."""
_SMALL_FILE = 2**22
"""Bytes up to which a file is read whole; of a larger one only the pages are read that the header takes."""
_PIXEL_REPRESENTATION = 0x00280103
_UNDEFINED_LENGTH = 0xFFFFFFFF
_CHARACTER_SET = 0x00080005
_FLOAT_PIXELS, _DOUBLE_PIXELS, _PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010
_PIXEL_TAGS = frozenset({_FLOAT_PIXELS, _DOUBLE_PIXELS, _PIXEL_DATA})  # a set: pydicom's tags take long to compare
_TEXT_DELIMITERS = {ord(char) for char in "\\\r\n\t\f"}
"""Characters that end the effect of an escape sequence (PS3.5 6.1.2.5.3)."""
_NUMBER_CODES = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


class NotDicom(ValueError):
    """A file is no DICOM object, or one without its UIDs; the text says why."""

    def __init__(self, reason: str, damaged: bool = False) -> None:
        super().__init__(reason)
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """The location of the pixels in a file."""

    offset: int
    """Offset of their first byte in the file or, if it is deflated, in the result of `inflate_file`."""
    length: int
    """Number of bytes present; for compressed pixels with their item headers."""
    complete: bool
    """Whether none of the bytes that the header announces is missing."""
    encapsulated: bool
    is_float: bool


@dataclass(frozen=True, slots=True)
class Header:
    """Forgiving access to a data set: what is absent or malformed reads as None, "" or ().

    The values are converted here and not by pydicom, which refuses or warns of much that scanners write.
    """

    dataset: Dataset
    """As pydicom read it; its elements are not converted yet."""
    transfer_syntax_uid: str
    pixels: PixelLocation | None = None

    def text(self, tag: int) -> str:
        """Return a string in the file's character set, without its padding."""
        return self.free_text(tag).strip(" \0")

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return the values of a multi-valued string, without their padding."""
        text = self.text(tag)
        return tuple(part.strip(" \0") for part in text.split("\\")) if text else ()

    def free_text(self, tag: int) -> str:
        """Return a string in the file's character set, with leading and trailing spaces."""
        value = self._bytes(tag)
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").rstrip("\0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown character set must not stop a study
            try:
                return decode_bytes(value, self._encodings(), _TEXT_DELIMITERS).rstrip("\0")
            except PARSER_FAILURES:
                return value.decode("latin-1").rstrip("\0")

    def bare_bytes(self, tag: int) -> bytes:
        """Return a value as it stands in the file, without its padding; b"" where it is absent or a sequence."""
        return self._bytes(tag).strip(b" \0")

    def numbers(self, tag: int, unwritten_vr: str = "") -> tuple[float, ...]:
        """Return finite numbers, written as text or binary; () where one of them is neither.

        `unwritten_vr` is the value representation of a private element, for files that do not say it.
        """
        element = self._raw(tag)
        if element is None or not element.value:
            return ()
        value = element.value
        try:
            code = _NUMBER_CODES.get(_number_vr(element, unwritten_vr))
            if code is None:
                numbers = tuple(
                    float(part) for part in value.decode("latin-1").strip(" \0").split("\\") if part.strip()
                )
            else:
                layout = struct.Struct(("<" if element.is_little_endian else ">") + code)
                whole = len(value) // layout.size * layout.size
                numbers = tuple(float(one) for (one,) in layout.iter_unpack(value[:whole]))
        except (ValueError, KeyError, struct.error):
            return ()
        return numbers if all(-1e300 < number < 1e300 for number in numbers) else ()

    def number(self, tag: int) -> float | None:
        """Return the first of `numbers`."""
        values = self.numbers(tag)
        return values[0] if values else None

    def integer(self, tag: int) -> int | None:
        """Return the first of `numbers` as an integer."""
        value = self.number(tag)
        return int(value) if value is not None and abs(value) < 2**53 else None

    def bits(self, tag: int) -> int | None:
        """Return the bits of the first value, of two bytes (UL and SL: four), as an unsigned number.

        It does not depend on whether the VR is US or SS, as `numbers` does.
        """
        element = self._raw(tag)
        if element is None or not isinstance(element.value, bytes) or len(element.value) < 2:
            return None
        if str(element.VR or "UN") in ("DS", "IS", "FL", "FD"):
            value = self.integer(tag)
            return None if value is None else value % 2**16
        size = 4 if str(element.VR) in ("UL", "SL") and len(element.value) >= 4 else 2
        return int.from_bytes(element.value[:size], "little" if element.is_little_endian else "big")

    def value(self, tag: int) -> bytes:
        """Return the bytes of an element as they stand in the file; none of an absent one."""
        return self._bytes(tag)

    def items(self, tag: int) -> tuple["Header", ...]:
        """Return the items of a sequence."""
        element = self.dataset.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement):
            element = self._parse_sequence(element)
            if element is not None:
                self._keep_parsed(tag, element)
        if element is None or not isinstance(element.value, Sequence):
            return ()
        return tuple(Header(item, self.transfer_syntax_uid) for item in element.value)

    def _keep_parsed(self, tag: int, element: DataElement) -> None:
        """Keep a sequence, so that it is parsed once. pydicom converts PixelRepresentation then; that is undone."""
        signed = self._raw(_PIXEL_REPRESENTATION)
        self.dataset[tag] = element
        if signed is not None:
            self.dataset[_PIXEL_REPRESENTATION] = signed

    def _parse_sequence(self, element: RawDataElement) -> DataElement | None:
        """Parse a sequence of defined length, which pydicom leaves as it stands in the file until it is accessed."""
        value = element.value
        if not isinstance(value, bytes) or element.VR not in (None, "SQ", "UN"):
            return None
        stream = guard_stream(io.BytesIO(value), _MOST_READS, _MOST_BYTES)
        encoding = (element.is_implicit_VR, element.is_little_endian)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                items = read_sequence(stream, *encoding, len(value), self._encodings())
            except PARSER_FAILURES:
                return None
        return DataElement(element.tag, "SQ", items)

    def _bytes(self, tag: int) -> bytes:
        element = self._raw(tag)
        if element is not None:
            return element.value or b""
        # pydicom converts a few while it reads or keeps others: the character set, and creators of private blocks.
        converted = self.dataset.get_item(tag, keep_deferred=True)
        value = converted.value if isinstance(converted, DataElement) else None
        parts = [value] if isinstance(value, str) else value if isinstance(value, MultiValue) else []
        return "\\".join(part for part in parts if isinstance(part, str)).encode()

    def _raw(self, tag: int) -> RawDataElement | None:
        """Return an element whose value pydicom has not parsed."""
        element = self.dataset.get_item(tag, keep_deferred=True)
        return element if isinstance(element, RawDataElement) else None

    def _encodings(self) -> list[str]:
        """Return Python's names of the character sets; items inherit those of the data set that they are in."""
        found = self.dataset.original_character_set
        return [found] if isinstance(found, str) else list(found)


def read_header(path: Path, tags: Iterable[int] | None) -> Header:
    """Read the elements `tags` of a file (None: all before its pixels), and where these lie. Raises NotDicom."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            if size <= _SMALL_FILE:
                return _read(io.BytesIO(stream.read()), size, tags)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                return _read(pages, size, tags)
    except NotDicom:
        raise
    except PARSER_FAILURES as exc:
        if isinstance(exc, OSError) and exc.strerror is not None:  # pydicom raises OSError, too, but without a reason
            raise NotDicom(f"cannot be read ({exc.strerror})", damaged=True) from exc
        raise NotDicom("DICOM, but cut short or damaged inside its header", damaged=True) from exc


def inflate_file(path: Path) -> bytes:
    """Return the inflated data set of a deflated file, without preamble and file meta information.

    Raises NotDicom, OSError and zlib.error.
    """
    stream = guard_stream(io.BytesIO(path.read_bytes()), _MOST_READS, _MOST_BYTES)
    try:
        read_partial(stream)
    except DeflatedDataSet:
        return _inflate(stream)
    raise NotDicom("not a deflated file any more", damaged=True)


def _read(content: BinaryIO | mmap.mmap, size: int, tags: Iterable[int] | None) -> Header:
    wanted: list[BaseTag | int] = [] if tags is None else [*tags, _CHARACTER_SET]  # an empty list means all elements
    force = not _has_preamble(content.read(132))
    content.seek(0)
    stream = guard_stream(content, _MOST_READS, _MOST_BYTES)
    pixels: tuple[int, int, int] | None = None

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal pixels
        pixels = (tag, length, stream.tell()) if tag in _PIXEL_TAGS else None
        return pixels is not None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what we read forgivingly
        try:
            dataset = read_partial(stream, at_pixels, force=force, specific_tags=wanted)
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", "") or "")
        except DeflatedDataSet:
            inflated = _inflate(stream)
            stream, size = guard_stream(io.BytesIO(inflated), _MOST_READS, _MOST_BYTES), len(inflated)
            dataset = read_partial(stream, at_pixels, force=True, specific_tags=wanted)
            syntax = DeflatedExplicitVRLittleEndian
    if not syntax:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = str(ImplicitVRLittleEndian if implicit else explicit)
    return Header(dataset, syntax, None if pixels is None else _pixel_location(stream, size, *pixels))


def _has_preamble(start: bytes) -> bool:
    """Whether a file begins with a preamble, and not at once with an element. Raises NotDicom for anything else."""
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


def _pixel_location(stream: BinaryIO, size: int, tag: int, length: int, offset: int) -> PixelLocation:
    is_float = tag in (_FLOAT_PIXELS, _DOUBLE_PIXELS)
    there = size - offset
    if length != _UNDEFINED_LENGTH:
        return PixelLocation(offset, min(length, there), 0 < length <= there, False, is_float)
    return PixelLocation(offset, there, _fragments_complete(stream, size, offset), True, is_float)


def _fragments_complete(stream: BinaryIO, size: int, offset: int) -> bool:
    """Return whether encapsulated pixels (PS3.5 A.4) have a fragment and run to their sequence delimiter.

    Some archives drop the delimiter: then the last fragment must end with the file.
    """
    stream.seek(offset)
    try:
        count, starts = parse_fragments(stream)
    except ValueError:
        return False
    if count < 2:  # the first item is the offset table
        return False
    stream.seek(starts[-1] + 4)
    end = starts[-1] + 8 + int.from_bytes(stream.read(4), "little")
    stream.seek(end)
    return end == size or (end + 8 <= size and stream.read(4) == b"\xfe\xff\xdd\xe0")


def _inflate(stream: BinaryIO) -> bytes:
    inflated = inflate(stream, _MAX_INFLATED + 1)
    if len(inflated) > _MAX_INFLATED:
        raise NotDicom(f"a deflated file of more than {_MAX_INFLATED // 2**20} MiB", damaged=True)
    return inflated


def _number_vr(element: RawDataElement, unwritten: str) -> str:
    """Return the value representation of numbers, also where the file does not say it. Raises KeyError."""
    vr = str(element.VR or "UN")
    if vr == "UN":
        vr = unwritten or pydicom.datadict.dictionary_VR(element.tag)
    return "US" if vr == "US or SS" else vr
