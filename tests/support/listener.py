"""A listener with an archive, and functions that connect and send to it."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from plugin.archive.store import EmbeddedArchive
from plugin.database.audit_log import Peer
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.listener.c_store_handler import StoreEvents
from plugin.listener.listener import Listener, start_listener
from plugin.listener.repeated_instance import RepeatOutcome
from plugin.settings.sections import ListenerSettings
from tests.support.node import MR_IMAGE_STORAGE


class ListenerWithArchive:
    """A running listener, and the archive that it stores into."""

    def __init__(self, folder: Path, minimum_free_bytes: int = 0, **settings: Any) -> None:
        self.archive = EmbeddedArchive(folder / "archive", minimum_free_bytes)
        self.archive.open()
        self.stored_studies: list[str] = []
        self.senders: set[Peer] = set()
        self.repeats: list[RepeatOutcome] = []
        self.refused: list[tuple[Peer, str]] = []
        events = StoreEvents(
            self._on_stored,
            on_repeat=lambda _study, _sender, found: self.repeats.append(found),
            on_refused=lambda peer, reason: self.refused.append((peer, reason)),
        )
        self.listener: Listener = start_listener(ListenerSettings(port=0, **settings), self.archive, events)
        self.port = self.listener.address.port

    def _on_stored(self, study: str, sender: Peer) -> None:
        self.stored_studies.append(study)
        self.senders.add(sender)


MakeListener = Callable[..., ListenerWithArchive]
"""The fixture `make_listener`; it takes settings of the listener."""


@contextmanager
def association(port: int, sop_class: str = MR_IMAGE_STORAGE, syntax: str = ExplicitVRLittleEndian) -> Iterator[Any]:
    """Open an association with one presentation context; release it at the end of the block."""
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(sop_class, syntax)
    peer = ae.associate("127.0.0.1", port, ae_title="GLIONODE")
    assert peer.is_established
    yield peer
    peer.release()


def send_bytes(peer: Any, sop_instance_uid: str, content: bytes) -> Dataset:
    """Send a C-STORE with these bytes as its data set, which pynetdicom would not write; return its status data set.

    What it replaces in pynetdicom is checked in tests/plugin/dimse/test_pynetdicom_internals.py.
    """
    command = Dataset()
    command.SOPClassUID = peer.accepted_contexts[0].abstract_syntax
    command.SOPInstanceUID = sop_instance_uid
    command.file_meta = FileMetaDataset()
    command.file_meta.TransferSyntaxUID = peer.accepted_contexts[0].transfer_syntax[0]
    with patch("pynetdicom.association.encode", return_value=content):
        response: Dataset = peer.send_c_store(command)
    return response


@contextmanager
def raw_connection(port: int) -> Iterator[socket.socket]:
    """Open a TCP connection, on which a test may send anything."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def pdu(pdu_type: int, content: bytes, announced: int | None = None) -> bytes:
    """Encode a PDU (PS3.8 9.3), which may announce another length than it has."""
    return struct.pack(">BBL", pdu_type, 0, len(content) if announced is None else announced) + content


def associate_request(
    calling: bytes = b"SENDER",
    called: bytes = b"GLIONODE",
    sop_class: str = "1.2.840.10008.1.1",
    syntax: str = "1.2.840.10008.1.2",
    longest_pdu: int = 16384,
) -> bytes:
    """Encode an A-ASSOCIATE-RQ (PS3.8 9.3.2) with one presentation context, by default C-ECHO, implicit VR.

    `longest_pdu` is the maximum length of the PDUs that the requestor receives, in bytes.
    """

    def item(item_type: int, content: bytes) -> bytes:
        return struct.pack(">BBH", item_type, 0, len(content)) + content

    context = item(0x30, sop_class.encode()) + item(0x40, syntax.encode())
    fixed = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    user = item(0x51, struct.pack(">L", longest_pdu)) + item(0x52, b"1.2.3")
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, struct.pack("B3x", 1) + context) + item(0x50, user)
    return pdu(0x01, fixed + items)


def begin_store(instance: Dataset) -> bytes:
    """Encode the command of a C-STORE in the presentation context 1, after which a data set has to come."""
    command = C_STORE()
    command.MessageID, command.Priority = 1, 2
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    command.DataSet = BytesIO(b"x")
    message = C_STORE_RQ()
    message.primitive_to_message(command)
    context_id, value = next(message.encode_msg(1, 16384)).presentation_data_value_list[0]
    return pdu(0x04, struct.pack(">LB", len(value) + 1, context_id) + value)


def read_pdu(connection: socket.socket) -> bytes:
    """Return the next PDU from the node; empty if it closed the connection."""
    try:
        head = connection.recv(6, socket.MSG_WAITALL)
        return head + connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL) if head else b""
    except ConnectionResetError:  # it closed the connection before it had read all
        return b""
