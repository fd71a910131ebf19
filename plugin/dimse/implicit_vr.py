"""Rewrite a data set from Explicit VR Little Endian to Implicit VR Little Endian (PS3.5 annex A) without loss.

Values are copied as bytes: no text is decoded, so none changes or fails whatever its character set. Only the headers of
elements and the lengths of sequences and items are written anew.
"""

import struct
from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations with a length of 4 bytes after 2 reserved ones (PS3.5 table 7.1-1)."""
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 32
"""Sequences within each other."""


class NotConvertible(ValueError):
    """The data set does not parse, or has a part that the encoding gives no certain meaning. Quotes no value."""


def to_implicit_vr(content: bytes) -> bytes:
    """Return a data set, which is in Explicit VR Little Endian, in Implicit VR Little Endian. Raises NotConvertible."""
    try:
        return b"".join(_data_set(_Reader(content), len(content), 0))
    except (struct.error, IndexError) as exc:
        raise NotConvertible("the data set ends within an element") from exc


def implicit_vr_dataset(content: bytes) -> Dataset:
    """Return a data set like `to_implicit_vr`, with the file meta information that names its transfer syntax."""
    dataset = read_dataset(BytesIO(to_implicit_vr(content)), is_implicit_VR=True, is_little_endian=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


class _Reader:
    """Bytes and the position in them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self._content[self.at : self.at + count]
        if len(taken) != count:
            raise NotConvertible("the data set ends within an element")
        self.at += count
        return taken

    def take_long(self) -> int:
        return int(struct.unpack("<L", self.take(4))[0])


def _data_set(reader: _Reader, end: int, depth: int) -> Iterator[bytes]:
    """Yield the elements up to the position `end`, or to the end of an item of undefined length (`end` is negative)."""
    while end < 0 or reader.at < end:
        tag = reader.take(4)
        if tag == _ITEM_END:
            if end >= 0:
                raise NotConvertible("an item ends twice")
            reader.take_long()
            return
        vr = reader.take(2)
        if vr in _LONG:
            reader.take(2)
            length = reader.take_long()
        else:
            length = int(struct.unpack("<H", reader.take(2))[0])
        if vr == b"SQ":
            yield from _sequence(reader, tag, length, depth + 1)
        elif length == _UNDEFINED:
            raise NotConvertible("an element of undefined length is no sequence")
        elif tag[2:] == b"\0\0":  # a retired group length, which would be wrong now
            reader.take(length)
        else:
            yield tag + struct.pack("<L", length) + reader.take(length)
    if end >= 0 and reader.at != end:
        raise NotConvertible("an element is longer than what holds it")


def _sequence(reader: _Reader, tag: bytes, length: int, depth: int) -> Iterator[bytes]:
    if depth > _DEEPEST:
        raise NotConvertible("its sequences are too deep")
    end = -1 if length == _UNDEFINED else reader.at + length
    items: list[bytes] = []
    while end < 0 or reader.at < end:
        kind, of_item = reader.take(4), reader.take_long()
        if kind == _SEQUENCE_END and end < 0:
            break
        if kind != _ITEM:
            raise NotConvertible("a sequence holds something that is no item")
        content = b"".join(_data_set(reader, -1 if of_item == _UNDEFINED else reader.at + of_item, depth))
        items.append(_ITEM + struct.pack("<L", len(content)) + content)
    if end >= 0 and reader.at != end:
        raise NotConvertible("an item is longer than its sequence")
    content = b"".join(items)
    yield tag + struct.pack("<L", len(content)) + content
