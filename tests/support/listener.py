"""What the listener's tests share: a listener with an archive of its own, and peers that speak to it."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from plugin.archive.store import EmbeddedArchive
from plugin.database.audit_log import Peer
from plugin.dimse.application_entity import ApplicationEntity
from plugin.listener.listener import Listener, start_listener
from plugin.settings.sections import ListenerSettings
from tests.support.node import MR_IMAGE_STORAGE


class Receiving:
    """A listener with an archive of its own."""

    def __init__(self, folder: Path, minimum_free_bytes: int = 0, **settings: Any) -> None:
        self.archive = EmbeddedArchive(folder / "archive", minimum_free_bytes)
        self.archive.open()
        self.touched: list[str] = []
        self.senders: set[Peer] = set()
        self.listener: Listener = start_listener(ListenerSettings(port=0, **settings), self.archive, self._touch)
        self.port = self.listener.address.port

    def _touch(self, study: str, sender: Peer) -> None:
        self.touched.append(study)
        self.senders.add(sender)


@contextmanager
def association(port: int, sop_class: str = MR_IMAGE_STORAGE, syntax: str = ExplicitVRLittleEndian) -> Iterator[Any]:
    """An association with one presentation context, released at the end."""
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(sop_class, syntax)
    peer = ae.associate("127.0.0.1", port, ae_title="GLIONODE")
    assert peer.is_established
    yield peer
    peer.release()


def send_bytes(peer: Any, sop_instance_uid: str, content: bytes) -> Dataset:
    """A C-STORE of bytes that the library would not write."""
    command = Dataset()
    command.SOPClassUID = peer.accepted_contexts[0].abstract_syntax
    command.SOPInstanceUID = sop_instance_uid
    command.file_meta = FileMetaDataset()
    command.file_meta.TransferSyntaxUID = peer.accepted_contexts[0].transfer_syntax[0]
    with patch("pynetdicom.association.encode", return_value=content):
        answer: Dataset = peer.send_c_store(command)
    return answer


@contextmanager
def raw_connection(port: int) -> Iterator[socket.socket]:
    """A TCP connection that says what a test likes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def pdu(pdu_type: int, content: bytes, announced: int | None = None) -> bytes:
    """A PDU (PS3.8 9.3), which may announce another length than it has."""
    return struct.pack(">BBL", pdu_type, 0, len(content) if announced is None else announced) + content


def associate_request(calling: bytes = b"SENDER", called: bytes = b"GLIONODE") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) for C-ECHO."""

    def item(item_type: int, content: bytes) -> bytes:
        return struct.pack(">BBH", item_type, 0, len(content)) + content

    context = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    fixed = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3")
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, struct.pack("B3x", 1) + context) + item(0x50, user)
    return pdu(0x01, fixed + items)


def answer_of(connection: socket.socket) -> bytes:
    """The next PDU of the node; empty where it closed the connection."""
    try:
        head = connection.recv(6, socket.MSG_WAITALL)
        return head + connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL) if head else b""
    except ConnectionResetError:  # it closed with something of ours unread
        return b""
