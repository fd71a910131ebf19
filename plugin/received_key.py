"""The three UIDs of an encoded data set, found in a stranger's bytes. Writes nothing, reads no value but UIDs."""

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from plugin.archive import InstanceKey

_SOP_UID, _STUDY_UID, _SERIES_UID = 0x00080018, 0x0020000D, 0x0020000E
_ITEM_GROUP, _ITEM = 0xFFFE, 0xE000
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


def instance_key(data_set: BinaryIO, transfer_syntax_uid: str) -> InstanceKey:
    """The UIDs of an encoded data set that begins where the stream stands; the stream's position is moved.

    Raises NotADataSet and WrongUid. Messages hold no value of the data set.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        data_set = _inflate_head(data_set)
    found = _find_uids(
        data_set,
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        order=">" if transfer_syntax_uid == ExplicitVRBigEndian else "<",
    )
    try:
        return InstanceKey(found[_STUDY_UID], found[_SERIES_UID], found[_SOP_UID])
    except KeyError as exc:
        raise NotADataSet("it does not parse, or a UID of it is missing") from exc


def _find_uids(data_set: BinaryIO, implicit: bool, order: str) -> dict[int, str]:
    """Walk the top level of a data set up to (0020,000E) and take the three UIDs.

    A walk of our own, because a stranger's bytes come here first: no recursion, no value read but the UIDs', no
    warning that prints a value. Sequences of undefined length are passed by counting their delimiters (PS3.5 7.5).
    """
    found: dict[int, str] = {}
    depth = 0
    for _ in range(_MOST_ELEMENTS):
        if len(found) == 3 or len(head := data_set.read(8)) < 8:
            break
        group, element, vr, length = struct.unpack(f"{order}HH2sH", head)
        long_length = struct.unpack(f"{order}L", head[4:])[0]
        if group == _ITEM_GROUP:
            if element != _ITEM:
                depth -= 1
            elif long_length == _UNDEFINED_LENGTH:
                depth += 1
            else:
                data_set.seek(long_length, 1)
            continue
        tag = group << 16 | element
        if depth <= 0 and tag > _SERIES_UID:
            break
        if implicit or not vr.isalpha():  # implicit also inside a UN of undefined length (PS3.5 6.2.2, note 4)
            length = long_length
        elif vr in _LONG_FORMS:
            length = struct.unpack(f"{order}L", data_set.read(4).ljust(4, b"\0"))[0]
        if length == _UNDEFINED_LENGTH:
            depth += 1
        elif depth <= 0 and tag in (_SOP_UID, _STUDY_UID, _SERIES_UID):
            found[tag] = data_set.read(min(length, 66)).decode("ascii", errors="replace").rstrip("\0 ")
            data_set.seek(max(0, length - 66), 1)
        else:
            data_set.seek(length, 1)
    return found


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
