"""Decode and encode C-STORE messages: fragments (PS3.8 9.3.5, annex E), commands and responses (PS3.7 9.3.1)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_P_DATA = 0x04
_COMMAND, _LAST = 1, 2  # PS3.8 annex E.2: bits of a message control header
_STORE_REQUEST, _STORE_RESPONSE, _NO_DATA_SET = 0x0001, 0x8001, 0x0101  # PS3.7 E.1
_CLASS_UID, _FIELD, _MESSAGE_ID, _RESPONDED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _COMMENT, _INSTANCE_UID = 0x0800, 0x0900, 0x0902, 0x1000
_HEADERS_BYTES = 6  # of a presentation data value: its length, the context ID, the control header
_LONGEST_COMMENT = 64  # LO


class InvalidMessage(ValueError):
    """Bytes are no valid message; the text says why and quotes none of them."""


class Fragment(NamedTuple):
    """A presentation data value (PDV): a part of a command or of a data set."""

    context_id: int
    control_header: int
    content: memoryview

    @property
    def is_command(self) -> bool:
        """Whether it belongs to a command, not to a data set."""
        return bool(self.control_header & _COMMAND)

    @property
    def is_last(self) -> bool:
        """Whether it is the last of its command or data set."""
        return bool(self.control_header & _LAST)

    def as_pdu(self) -> bytes:
        """Return a P-DATA-TF PDU with this fragment alone."""
        return encode_pdu(self.context_id, bytes([self.control_header]) + self.content)


@dataclass(frozen=True, slots=True)
class Command:
    """The elements of a command set that the listener reads."""

    field: int
    """Command Field (0000,0100)."""
    message_id: int
    has_data_set: bool
    sop_class: bytes
    """As it came; the response repeats it."""
    sop_instance: bytes
    """As it came; the response repeats it."""

    @property
    def is_store_request(self) -> bool:
        """Whether this is a C-STORE request."""
        return self.field == _STORE_REQUEST

    @property
    def sop_class_uid(self) -> str:
        """Affected SOP Class UID (0000,0002), valid or not."""
        return self.sop_class.decode("ascii", errors="replace").rstrip("\0 ")

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID (0000,1000), valid or not."""
        return self.sop_instance.decode("ascii", errors="replace").rstrip("\0 ")


def split_fragments(content: bytes | bytearray | memoryview) -> Iterator[Fragment]:
    """Yield the fragments of a P-DATA-TF PDU, given without its header. Raises InvalidMessage."""
    view, start = memoryview(content), 0
    while start < len(view):
        if len(view) - start < _HEADERS_BYTES:
            raise InvalidMessage("the header of a fragment is cut short")
        length, context_id, control_header = struct.unpack_from(">LBB", view, start)
        end = start + 4 + length
        if length < 2 or end > len(view):
            raise InvalidMessage("a fragment has an invalid length")
        yield Fragment(context_id, control_header, view[start + _HEADERS_BYTES : end])
        start = end


def parse_command(encoded: bytes) -> Command:
    """Parse a command set: elements of group 0000, implicit little endian (PS3.7 6.3.1). Raises InvalidMessage."""
    found: dict[int, bytes] = {}
    start = 0
    while start < len(encoded):
        if len(encoded) - start < 8:
            raise InvalidMessage("a command is cut short")
        group, element, length = struct.unpack_from("<HHL", encoded, start)
        start += 8
        if group != 0 or length > len(encoded) - start:
            raise InvalidMessage("a command does not parse")
        found[element] = encoded[start : start + length]
        start += length
    return Command(
        field=_number(found, _FIELD),
        message_id=_number(found, _MESSAGE_ID) if _MESSAGE_ID in found else 0,
        has_data_set=_number(found, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class=found.get(_CLASS_UID, b""),
        sop_instance=found.get(_INSTANCE_UID, b""),
    )


def encode_response(command: Command, status: int, comment: str, longest_pdu: int) -> tuple[bytes, ...]:
    """Encode the response to a C-STORE request as fragments, each with its control header in front.

    They fit into PDUs of at most `longest_pdu` bytes; 0 means any length.
    """
    elements = [
        (_CLASS_UID, command.sop_class),
        (_FIELD, struct.pack("<H", _STORE_RESPONSE)),
        (_RESPONDED_ID, struct.pack("<H", command.message_id)),
        (_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET)),
        (_STATUS, struct.pack("<H", status)),
        (_INSTANCE_UID, command.sop_instance),
    ]
    if comment:
        text = comment[:_LONGEST_COMMENT].encode("ascii", errors="replace")
        elements.insert(-1, (_COMMENT, text + b" " * (len(text) % 2)))
    encoded = b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements)
    encoded = struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded
    step = max(longest_pdu - _HEADERS_BYTES, 1) if longest_pdu else len(encoded)
    values = []
    for start in range(0, len(encoded), step):
        part, flags = encoded[start : start + step], _COMMAND if start + step < len(encoded) else _COMMAND | _LAST
        values.append(bytes([flags]) + part)
    return tuple(values)


def encode_pdu(context_id: int, value: bytes | bytearray) -> bytes:
    """Encode a P-DATA-TF PDU with one fragment; `value` begins with the control header."""
    return struct.pack(">BxLLB", _P_DATA, len(value) + 5, len(value) + 1, context_id) + value


def _number(found: dict[int, bytes], element: int) -> int:
    """Return an element of type US. Raises InvalidMessage where it is missing."""
    value = found.get(element, b"")
    if len(value) != 2:
        raise InvalidMessage("a command lacks a required number")
    return int(struct.unpack("<H", value)[0])
