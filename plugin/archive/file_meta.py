"""Encode the head of a DICOM file, preamble and file meta information (PS3.10 7.1), and read the SOP class from it."""

import struct
from pathlib import Path

IMPLEMENTATION_CLASS_UID = "2.25.284334626200112696059048169118591214615"
"""(0002,0012); made from a UUID (PS3.5 B.2): version 5 of "glionode" in the DNS name space."""
IMPLEMENTATION_VERSION_NAME = "GLIONODE_1"

_PREAMBLE = b"\0" * 128 + b"DICM"
_VERSION = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
_GROUP_LENGTH_BYTES = 12
_CLASS_AT = len(_PREAMBLE) + _GROUP_LENGTH_BYTES + len(_VERSION)


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return the bytes before the data set of a file. They name no sender, so that equal data sets give equal files."""
    meta = b"".join(
        (
            _VERSION,
            _uid(0x0002, sop_class_uid),
            _uid(0x0003, sop_instance_uid),
            _uid(0x0010, transfer_syntax_uid),
            _uid(0x0012, IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(meta)) + meta


def read_sop_class_uid(path: Path) -> str:
    """Return the SOP class of a file that begins with `encode_file_meta`; empty for any other file. Makes one read."""
    with path.open("rb", buffering=0) as file:
        head = file.read(_CLASS_AT + 8 + 64)
    if len(head) < _CLASS_AT + 8 or head[_CLASS_AT : _CLASS_AT + 6] != struct.pack("<HH2s", 0x0002, 0x0002, b"UI"):
        return ""
    length = struct.unpack("<H", head[_CLASS_AT + 6 : _CLASS_AT + 8])[0]
    return head[_CLASS_AT + 8 : _CLASS_AT + 8 + length].decode("ascii", errors="replace").rstrip("\0 ")


def _uid(element: int, uid: str) -> bytes:
    return _element(element, b"UI", uid.encode("ascii"), b"\0")


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
