"""Read from an encoded data set, as a sender delivered it, the three UIDs that name it and whether it is urgent."""

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.guarded_stream import PARSER_FAILURES, guard_stream, inflate
from pipeline.header import Header
from plugin.archive.store import InstanceKey

_SOP_UID, _STUDY_UID, _SERIES_UID = 0x00080018, 0x0020000D, 0x0020000E
_UIDS = (_STUDY_UID, _SERIES_UID, _SOP_UID)
_STUDY_PRIORITY, _REQUEST_ATTRIBUTES, _REQUESTED_PRIORITY = 0x0032000C, 0x00400275, 0x00401003
_PRIORITIES = (_STUDY_PRIORITY, _REQUESTED_PRIORITY)
_WANTED = (*_UIDS, *_PRIORITIES, _REQUEST_ATTRIBUTES)
_LAST = max(_WANTED)
_URGENT = frozenset({"STAT", "HIGH", "URGENT", "EMERGENCY", "ASAP", "S", "A"})
"""PS3.3 C.4.11 has STAT and HIGH; the others are what interfaces copy from orders (HL7 table 0485: S stat, A asap)."""
_LARGEST_HEAD = 1 << 24
"""Bytes that are read, or inflated, in search of the UIDs; they stand in the first few thousand."""
_MOST_READS = 100_000
"""Reads, two or three for an element; a real data set takes a few hundred, one with 5,000 references 50,000."""
_LARGEST_VALUE = 1 << 14
"""Bytes of a value that is read; the wanted ones are shorter."""


class NotADataSet(ValueError):
    """The bytes of a C-STORE are no data set in the transfer syntax that was agreed on, or name no study."""


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """What a data set says at its beginning."""

    key: InstanceKey
    urgent: bool
    """Whether it was ordered to be done at once."""


def read_head(data_set: BinaryIO, transfer_syntax_uid: str) -> ReceivedHead:
    """Read the head of an encoded data set that begins where the stream stands; moves the stream's position.

    Raises NotADataSet and WrongUid. Messages hold no value of the data set.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        try:
            data_set = BytesIO(inflate(data_set, _LARGEST_HEAD))
        except zlib.error as exc:
            raise NotADataSet("it is not deflated as agreed") from exc
    stream = guard_stream(data_set, _MOST_READS, _LARGEST_HEAD)
    head = _read_elements(stream, transfer_syntax_uid)
    if not all(tag in head.dataset for tag in _UIDS):
        raise NotADataSet("it does not parse, or a UID of it is missing")
    key = InstanceKey(*(head.free_text(tag).rstrip("\0 ") for tag in _UIDS))
    return ReceivedHead(key, _is_urgent(head))


def _read_elements(stream: BinaryIO, transfer_syntax_uid: str) -> Header:
    """Read the elements of a data set that matter here. What follows damage is not read."""
    elements = data_element_generator(
        stream,
        is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
        stop_when=lambda tag, vr, length: tag > _LAST,
        defer_size=_LARGEST_VALUE,
        specific_tags=list(_WANTED),
    )
    found = {}
    try:
        for element in elements:
            if element.value is not None:
                found[element.tag] = element
    except PARSER_FAILURES:
        pass
    return Header(Dataset(found), transfer_syntax_uid)


def _is_urgent(head: Header) -> bool:
    """Whether a data set says so, itself or in RequestAttributesSequence."""
    return any(
        not _URGENT.isdisjoint(each.text(tag).upper().split("^"))
        for each in (head, *head.items(_REQUEST_ATTRIBUTES))
        for tag in _PRIORITIES
    )
