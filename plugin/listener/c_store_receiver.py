"""Receive C-STORE requests from the socket to disk and respond to them, past pynetdicom, which gets other messages.

pynetdicom takes each message through two threads that poll their queues every millisecond, and through several pydicom
data sets; that took three quarters of the time of an image (benchmarks/ingest.py). Here the association's network
thread reads the PDUs of a request (PS3.8 9.3.5, PS3.7 9.3.1), writes the data set to its file and sends the response.
Memory holds one PDU, whatever the size of the object.
"""

import logging
import select
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import is_uid
from plugin.database.audit_log import Peer
from plugin.dimse.pynetdicom_internals import NetworkThread, abort_for_invalid_pdu
from plugin.listener.c_store_handler import PROCESSING_FAILURE, StoreRequest, StoreResponse
from plugin.listener.c_store_messages import (
    Command,
    Fragment,
    InvalidMessage,
    encode_response,
    parse_command,
    split_fragments,
)
from plugin.listener.open_connections import OpenConnection
from plugin.listener.pdu_reader import PduReader
from plugin.listener.received_data_set import BeginFile, ReceivedDataSet
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

_P_DATA = 0x04
_LONGEST_COMMAND = 1 << 16
_NEXT_WITHIN_S = 0.05
"""How long the next request is waited for in this module; pynetdicom checks no timers and queues meanwhile."""

HandleStore = Callable[[StoreRequest, ReceivedDataSet], StoreResponse]


@dataclass(frozen=True, slots=True)
class _Store:
    """A C-STORE whose data set is being received."""

    command: Command
    context_id: int
    request: StoreRequest
    data_set: ReceivedDataSet


class CStoreReceiver:
    """Reads the PDUs of an established association in its network thread."""

    def __init__(
        self,
        association: Any,
        reader: PduReader,
        connection: OpenConnection,
        begin_file: BeginFile,
        handle: HandleStore,
    ) -> None:
        self._association = association
        self._reader = reader
        self._connection = connection
        self._begin_file = begin_file
        self._handle = handle
        self._command = bytearray()
        self._command_pdus: list[bytes] = []
        """The PDUs of a command that is incomplete, for pynetdicom if it is no C-STORE request."""
        self._store: _Store | None = None
        self._expects_other_data_set = False
        """Whether the data set of a message other than C-STORE follows."""
        self._network = NetworkThread(association, self._receive)

    def discard(self) -> None:
        """Remove an incomplete data set; to be called at the end of the association."""
        if self._store is not None:
            self._store.data_set.close()
            self._store = None

    def _receive(self) -> bool:
        """Read PDUs as long as they follow each other; return whether any came."""
        if self._reader.has_unread:
            self._network.read_pdu_by_library()
            return True
        if not (self._reader.has_ahead or self._association.dul.socket.ready):
            return False
        self._network.reactor_gate.hold()
        try:
            while self._read_pdu():
                self._network.restart_idle_timer()
                if self._network.has_other_work() or not self._is_pdu_coming():
                    break
        finally:
            self._network.reactor_gate.release()
        return True

    def _is_pdu_coming(self) -> bool:
        if self._reader.has_ahead:
            return True
        connection = self._association.dul.socket.socket
        try:
            if isinstance(connection, ssl.SSLSocket) and connection.pending():
                return True
            return bool(select.select([connection], [], [], _NEXT_WITHIN_S)[0])
        except (OSError, TypeError, ValueError):  # closed meanwhile, which pynetdicom will notice
            return False

    def _read_pdu(self) -> bool:
        """Read and process one PDU; return False where pynetdicom has to go on."""
        head = bytes(self._reader.read(6))
        length = struct.unpack(">xxL", head)[0] if len(head) == 6 else 0
        content = self._reader.read(length) if length else memoryview(b"")
        if len(head) < 6 or len(content) < length:
            self._network.close_connection()
            return False
        if head[0] != _P_DATA:
            self._reader.unread(head + content)
            return False
        try:
            for fragment in split_fragments(content):
                self._process_fragment(fragment)
        except InvalidMessage as exc:
            _LOG.warning("aborting an association: a message of the peer is invalid: %s", exc)
            abort_for_invalid_pdu(self._association)
            return False
        return not self._reader.has_unread

    def _process_fragment(self, fragment: Fragment) -> None:
        """Write a part of a data set, or collect a part of a command. Raises InvalidMessage."""
        if self._expects_other_data_set:
            self._reader.unread(fragment.as_pdu())
            self._expects_other_data_set = fragment.is_command or not fragment.is_last
        elif self._store is not None:
            if fragment.is_command or fragment.context_id != self._store.context_id:
                raise InvalidMessage("a data set is interrupted by another message")
            self._store.data_set.write(fragment.content)
            self._connection.received(len(fragment.content))
            if fragment.is_last:
                self._end_store(self._store)
        elif not fragment.is_command:
            raise InvalidMessage("a data set comes without a command")
        else:
            self._command += fragment.content
            self._command_pdus.append(fragment.as_pdu())
            if len(self._command) > _LONGEST_COMMAND:
                raise InvalidMessage(f"a command is longer than {_LONGEST_COMMAND} bytes")
            if fragment.is_last:
                self._end_command(fragment.context_id)

    def _end_command(self, context_id: int) -> None:
        command, pdus = parse_command(bytes(self._command)), self._command_pdus
        self._command, self._command_pdus = bytearray(), []
        if not command.is_store_request:
            self._expects_other_data_set = command.has_data_set
            if command.has_data_set:  # N-ACTION or N-EVENT-REPORT of storage commitment; a C-ECHO has none
                self._connection.worked()
            self._reader.unread(b"".join(pdus))
            return
        request = StoreRequest(
            command.sop_class_uid, command.sop_instance_uid, self._transfer_syntax(context_id), self._sender()
        )
        uids = (request.sop_class_uid, request.sop_instance_uid)
        head = encode_file_meta(*uids, request.transfer_syntax_uid) if all(is_uid(uid) for uid in uids) else b""
        self._store = _Store(command, context_id, request, ReceivedDataSet(self._begin_file, head))
        self._connection.receives_object = True
        if not command.has_data_set:
            self._end_store(self._store)

    def _end_store(self, store: _Store) -> None:
        self._store = None
        try:
            with self._connection.storing():
                response = self._handle(store.request, store.data_set)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the sender gets a response and the association goes on
            _LOG.error("a C-STORE failed with an internal error (%s)", type(exc).__name__)
            response = StoreResponse(PROCESSING_FAILURE)
        finally:
            store.data_set.close()
        longest = self._association.requestor.maximum_length or 0
        values = encode_response(store.command, response.status, response.comment, longest)
        self._association.dimse.send_fragments(store.context_id, values)

    def _transfer_syntax(self, context_id: int) -> str:
        for context in self._association.accepted_contexts:
            if context.context_id == context_id:
                return str(context.transfer_syntax[0])
        raise InvalidMessage("its presentation context was not accepted")

    def _sender(self) -> Peer:
        peer = self._association.requestor
        return Peer(peer.ae_title if is_ae_title(peer.ae_title) else "", peer.address)
