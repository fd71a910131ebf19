"""The bytes of C-STORE messages: fragments (PS3.8 9.3.5, annex E), commands and answers (PS3.7 9.3.1). No sockets."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_P_DATA = 0x04
_COMMAND, _LAST = 1, 2  # PS3.8 annex E.2: bits of a message control header
_STORE_REQUEST, _STORE_ANSWER, _NO_DATA_SET = 0x0001, 0x8001, 0x0101  # PS3.7 E.1
_CLASS_UID, _FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _COMMENT, _INSTANCE_UID = 0x0800, 0x0900, 0x0902, 0x1000
_HEADERS_BYTES = 6  # of a presentation data value: its length, the context, the control header
_LONGEST_COMMENT = 64  # LO


class InvalidMessage(ValueError):
    """The bytes are no message; the text says why and quotes none of them."""


@dataclass(frozen=True, slots=True)
class Command:
    """What of a command set is looked at."""

    field: int
    """(0000,0100)"""
    message_id: int
    has_data_set: bool
    sop_class: bytes
    """As it came, to be sent back."""
    sop_instance: bytes

    @property
    def is_store_request(self) -> bool:
        """Whether it is a C-STORE request."""
        return self.field == _STORE_REQUEST

    @property
    def sop_class_uid(self) -> str:
        """(0000,0002), whatever it is."""
        return self.sop_class.decode("ascii", errors="replace").rstrip("\0 ")

    @property
    def sop_instance_uid(self) -> str:
        """(0000,1000), whatever it is."""
        return self.sop_instance.decode("ascii", errors="replace").rstrip("\0 ")


def fragments(content: bytes | bytearray) -> Iterator[tuple[int, int, memoryview]]:
    """Presentation context, control header and bytes of each value in a P-DATA-TF PDU. Raises InvalidMessage."""
    view, place = memoryview(content), 0
    while place < len(view):
        if len(view) - place < _HEADERS_BYTES:
            raise InvalidMessage("a fragment's header is cut short")
        length, context_id, flags = struct.unpack_from(">LBB", view, place)
        end = place + 4 + length
        if length < 2 or end > len(view):
            raise InvalidMessage("a fragment's length is wrong")
        yield context_id, flags, view[place + _HEADERS_BYTES : end]
        place = end


def parse_command(encoded: bytes) -> Command:
    """A command set: elements of group 0000, implicit little endian (PS3.7 6.3.1). Raises InvalidMessage."""
    found: dict[int, bytes] = {}
    place = 0
    while place < len(encoded):
        if len(encoded) - place < 8:
            raise InvalidMessage("a command is cut short")
        group, element, length = struct.unpack_from("<HHL", encoded, place)
        place += 8
        if group != 0 or length > len(encoded) - place:
            raise InvalidMessage("a command does not parse")
        found[element] = encoded[place : place + length]
        place += length
    return Command(
        field=_number(found, _FIELD),
        message_id=_number(found, _MESSAGE_ID) if _MESSAGE_ID in found else 0,
        has_data_set=_number(found, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class=found.get(_CLASS_UID, b""),
        sop_instance=found.get(_INSTANCE_UID, b""),
    )


def encode_answer(command: Command, status: int, comment: str, longest_pdu: int) -> tuple[bytes, ...]:
    """The fragments of the answer to a C-STORE request, control headers before them, for PDUs of at most `longest_pdu`
    bytes (0: whatever).
    """
    elements = [
        (_CLASS_UID, command.sop_class),
        (_FIELD, struct.pack("<H", _STORE_ANSWER)),
        (_ANSWERED_ID, struct.pack("<H", command.message_id)),
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


def to_pdu(context_id: int, value: bytes | bytearray) -> bytes:
    """A P-DATA-TF PDU with one fragment; `value` begins with its control header."""
    return struct.pack(">BxLLB", _P_DATA, len(value) + 5, len(value) + 1, context_id) + value


def _number(found: dict[int, bytes], element: int) -> int:
    """Raises InvalidMessage."""
    value = found.get(element, b"")
    if len(value) != 2:
        raise InvalidMessage("a command lacks a number")
    return int(struct.unpack("<H", value)[0])
