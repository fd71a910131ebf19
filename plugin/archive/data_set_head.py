"""Of an encoded data set, a stranger's bytes, the three UIDs that name it and whether it is urgent.

Writes nothing, and reads no value but those.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from plugin.archive.store import InstanceKey

_SOP_UID, _STUDY_UID, _SERIES_UID = 0x00080018, 0x0020000D, 0x0020000E
_STUDY_PRIORITY, _REQUEST_ATTRIBUTES, _REQUESTED_PRIORITY = 0x0032000C, 0x00400275, 0x00401003
_UIDS = dict.fromkeys((_SOP_UID, _STUDY_UID, _SERIES_UID), 66)
_PRIORITIES = {_STUDY_PRIORITY: 18, _REQUESTED_PRIORITY: 18}
"""Elements that are wanted, with the most bytes of their values that are read: UI, and CS or SH with padding."""
_ITEMS_OF_REQUEST = 1 << 14
_URGENT = frozenset({"STAT", "HIGH", "URGENT", "EMERGENCY", "ASAP", "S", "A"})
"""PS3.3 C.4.11 has STAT and HIGH; the others are what interfaces copy from orders (HL7 table 0485: S stat, A asap)."""
_ITEM_GROUP, _ITEM, _SEQUENCE_END = 0xFFFE, 0xE000, 0xE0DD
_LAST_OF_ALL = 0xFFFFFFFF
_UNDEFINED_LENGTH = 0xFFFFFFFF
# PS3.5 table 7.1-1: value representations whose length has 4 bytes after 2 reserved ones.
_LONG_FORMS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_LARGEST_HEAD = 1 << 24
"""Bytes of a deflated data set that are inflated in search of its UIDs; they stand in its first few thousand."""
_DEFLATED_CHUNK = 1 << 16
_MOST_ELEMENTS = 100_000
"""Elements that are walked in search of the UIDs; a real data set has them after a few hundred."""


class NotADataSet(ValueError):
    """The bytes of a C-STORE are no data set in the transfer syntax that was agreed on, or name no study."""


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """What a data set says at its beginning."""

    key: InstanceKey
    urgent: bool
    """Whether it was ordered to be done at once."""


@dataclass(frozen=True, slots=True)
class _Encoding:
    implicit: bool
    order: str
    """As `struct` has it."""


def read_head(data_set: BinaryIO, transfer_syntax_uid: str) -> ReceivedHead:
    """The head of an encoded data set that begins where the stream stands; the stream's position is moved.

    Raises NotADataSet and WrongUid. Messages hold no value of the data set.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        data_set = _inflate_head(data_set)
    encoding = _Encoding(
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        order=">" if transfer_syntax_uid == ExplicitVRBigEndian else "<",
    )
    found: dict[int, str] = {}
    for tag, value in _values(data_set, encoding, _UIDS):
        found[tag] = value.decode("ascii", errors="replace").rstrip("\0 ")
        if len(found) == len(_UIDS):
            break
    try:
        key = InstanceKey(found[_STUDY_UID], found[_SERIES_UID], found[_SOP_UID])
    except KeyError as exc:
        raise NotADataSet("it does not parse, or a UID of it is missing") from exc
    return ReceivedHead(key, _is_urgent(data_set, encoding))


def _is_urgent(data_set: BinaryIO, encoding: _Encoding) -> bool:
    """Whether the rest of the data set says so, itself or in RequestAttributesSequence."""
    for tag, value in _values(data_set, encoding, {**_PRIORITIES, _REQUEST_ATTRIBUTES: _ITEMS_OF_REQUEST}):
        if tag == _REQUEST_ATTRIBUTES:
            if any(_says_urgent(each) for _, each in _values(BytesIO(value), encoding, _PRIORITIES, into_items=True)):
                return True
        elif _says_urgent(value):
            return True
    return False


def _says_urgent(value: bytes) -> bool:
    text = value.decode("ascii", errors="replace").strip("\0 ").upper()
    return not _URGENT.isdisjoint(text.split("^"))


def _values(
    data_set: BinaryIO, encoding: _Encoding, wanted: Mapping[int, int], into_items: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Walk one level of a data set up to the last wanted tag; give the wanted ones and the first bytes of their values.

    A walk of our own, because a stranger's bytes come here first: no recursion, no other value read, no warning that
    prints a value. Sequences of undefined length are passed by counting their delimiters (PS3.5 7.5). With
    `into_items` the stream is the value of a sequence, and the level is that of its items' elements.
    """
    last = _LAST_OF_ALL if into_items else max(wanted)
    depth = 0
    for _ in range(_MOST_ELEMENTS):
        if len(head := data_set.read(8)) < 8:
            return
        group, element, long_length = struct.unpack(f"{encoding.order}HHL", head)
        if group == _ITEM_GROUP:
            if into_items and depth <= 0:
                if element == _SEQUENCE_END:
                    return
            elif element != _ITEM:
                depth -= 1
            elif long_length == _UNDEFINED_LENGTH:
                depth += 1
            else:
                data_set.seek(long_length, 1)
            continue
        tag = group << 16 | element
        if depth <= 0 and tag > last:
            return
        length = _length(data_set, encoding, head, long_length)
        value = b""
        if depth <= 0 and tag in wanted:
            value = data_set.read(min(length, wanted[tag]))
            yield tag, value
        if length == _UNDEFINED_LENGTH:
            data_set.seek(-len(value), 1)
            depth += 1
        else:
            data_set.seek(length - len(value), 1)


def _length(data_set: BinaryIO, encoding: _Encoding, head: bytes, long_length: int) -> int:
    """The length of an element's value, whose first 8 bytes are `head`; the stream stands at the value afterwards."""
    vr = head[4:6]
    if encoding.implicit or not vr.isalpha():  # implicit also inside a UN of undefined length (PS3.5 6.2.2, note 4)
        return long_length
    if vr in _LONG_FORMS:
        return int(struct.unpack(f"{encoding.order}L", data_set.read(4).ljust(4, b"\0"))[0])
    return int(struct.unpack(f"{encoding.order}H", head[6:])[0])


def _inflate_head(data_set: BinaryIO) -> BinaryIO:
    # PS3.5 A.5: raw deflate (RFC 1951). The limits are what stands between us and a bomb.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head = BytesIO()
    try:
        while head.tell() < _LARGEST_HEAD and (chunk := data_set.read(_DEFLATED_CHUNK)):
            head.write(inflater.decompress(chunk, _LARGEST_HEAD - head.tell()))
    except zlib.error as exc:
        raise NotADataSet("it is not deflated as agreed") from exc
    head.seek(0)
    return head
