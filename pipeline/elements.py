"""Data elements of well-formed DICOM data sets, as bytes (PS3.5 section 7). Knows no meaning of any of them.

Scanners send hundreds of headers a study, of which a few dozen elements matter; the others are passed over without
building an object for each. Whatever is not plainly well formed raises Irregular, and `pipeline.header` leaves it to
pydicom.
"""

import mmap
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error

Buffer = bytes | mmap.mmap

UNDEFINED = 0xFFFFFFFF
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_DEEPEST = 16
"""Levels of sequences in sequences; real ones have less than eight."""


class Irregular(ValueError):
    """The data set is not plainly well formed."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is written, by its transfer syntax."""

    implicit: bool
    little_endian: bool

    @property
    def order(self) -> str:
        """For `struct`."""
        return "<" if self.little_endian else ">"


Elements = dict[int, tuple[str, "bytes | list[Elements]"]]
"""Value representation ("" in implicit encoding) and value by tag; the items of a sequence are elements themselves."""

_STRUCTS = {order: (Struct(order + "HH"), Struct(order + "H"), Struct(order + "L")) for order in "<>"}


def walk(buffer: Buffer, start: int, encoding: Encoding, wanted: frozenset[int]) -> tuple[Elements, int]:
    """The wanted elements from `start` on, and where the pixels' element starts, or the end. Raises Irregular."""
    try:
        return _Walker(buffer, encoding).elements(start, len(buffer), wanted, 0)
    except (struct_error, IndexError) as exc:
        raise Irregular("cut short") from exc


class _Walker:
    """A position-free reader: every step takes a place and gives the next."""

    def __init__(self, buffer: Buffer, encoding: Encoding) -> None:
        self._buffer = buffer
        self._implicit = encoding.implicit
        tag, short, long = _STRUCTS[encoding.order]
        self._tag, self._short, self._long = tag.unpack_from, short.unpack_from, long.unpack_from

    def elements(self, place: int, end: int, wanted: frozenset[int] | None, depth: int) -> tuple[Elements, int]:
        """Elements up to `end`, an item's delimiter, or the pixels. `wanted` None keeps all."""
        buffer, read_tag, found, last = self._buffer, self._tag, Elements(), -1
        while place + 8 <= end:
            group, element = read_tag(buffer, place)
            tag = group << 16 | element
            if tag in PIXEL_TAGS and depth == 0:
                return found, place
            if tag == ITEM_END and depth:
                return found, place + 8
            if tag <= last:
                raise Irregular("elements out of order")  # PS3.5 7.1: ascending
            last = tag
            vr, length, place = self._start(place)
            keep = wanted is None or tag in wanted
            if length == UNDEFINED:
                if vr == b"UN":
                    raise Irregular("a sequence of unknown encoding")
                items, place = self.items(place, end, keep, depth + 1)
                if keep:
                    found[tag] = ("SQ", items)
                continue
            if place + length > end:
                raise Irregular("cut short")
            if keep:
                found[tag] = self._value(vr, place, length, depth)
            place += length
        return found, place

    def _start(self, place: int) -> tuple[bytes, int, int]:
        """Value representation, length, and where the value starts."""
        if self._implicit:
            return b"", self._long(self._buffer, place + 4)[0], place + 8
        vr = self._buffer[place + 4 : place + 6]
        if vr in _SHORT_VRS:
            return vr, self._short(self._buffer, place + 6)[0], place + 8
        if vr in _LONG_VRS:
            return vr, self._long(self._buffer, place + 8)[0], place + 12
        raise Irregular("unknown value representation")

    def _value(self, vr: bytes, place: int, length: int, depth: int) -> tuple[str, "bytes | list[Elements]"]:
        value = self._buffer[place : place + length]
        if vr == b"SQ" or (self._implicit and value[:4] == b"\xfe\xff\x00\xe0"):
            return "SQ", self.items(place, place + length, True, depth + 1)[0]
        return vr.decode("ascii"), value

    def items(self, place: int, end: int, keep: bool, depth: int) -> tuple[list[Elements], int]:
        """Items up to `end` or the sequence's delimiter."""
        if depth > _DEEPEST:
            raise Irregular("nested too deeply")
        found: list[Elements] = []
        wanted = None if keep else frozenset[int]()
        while place + 8 <= end:
            group, element = self._tag(self._buffer, place)
            tag, length = group << 16 | element, self._long(self._buffer, place + 4)[0]
            place += 8
            if tag == SEQUENCE_END:
                return found, place
            if tag != ITEM:
                raise Irregular("no item where one must be")
            if length == UNDEFINED:
                item, place = self.elements(place, end, wanted, depth)
            elif place + length > end:
                raise Irregular("cut short")
            else:
                item = self.elements(place, place + length, wanted, depth)[0] if keep else {}
                place += length
            if keep:
                found.append(item)
        return found, place
