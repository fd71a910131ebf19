"""C-STORE from the socket to the disk and back, beside the library, which has all other messages.

pynetdicom takes each message through two threads that look at their queues every millisecond, and several pydicom data
sets; that was three quarters of what an image cost (benchmarks/ingest.py). Here the association's network thread reads
the request's parts as they come (PS3.8 9.3.5, PS3.7 9.3.1), writes the data set to its file and sends the answer.
Memory has one PDU, whatever the object's size.
"""

import logging
import select
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import is_uid
from plugin.database.audit_log import Peer
from plugin.listener.c_store_handler import PROCESSING_FAILURE, StoreAnswer, StoreRequest
from plugin.listener.c_store_messages import Command, InvalidMessage, encode_answer, fragments, parse_command, to_pdu
from plugin.listener.pdu_reader import PduReader
from plugin.listener.received_data_set import BeginFile, ReceivedDataSet
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

_ESTABLISHED = "Sta6"  # PS3.8 table 9-10: association established, ready for data transfer
_CONNECTION_CLOSED, _INVALID_PDU = "Evt17", "Evt19"
_P_DATA = 0x04
_LONGEST_COMMAND = 1 << 16
_NEXT_WITHIN_S = 0.05
"""How long the next request is waited for here. Meanwhile the library's own looks, at timers and queues, pause."""

AnswerStore = Callable[[StoreRequest, ReceivedDataSet], StoreAnswer]


class CStoreReceiver:
    """What an association's network thread does with what it reads, while the association is established."""

    def __init__(self, association: Any, reader: PduReader, begin: BeginFile, answer: AnswerStore) -> None:
        self._association = association
        self._dul = association.dul
        self._reader = reader
        self._begin = begin
        self._answer = answer
        self._command = bytearray()
        self._unread: list[bytes] = []
        """PDUs of a command whose kind is not known yet."""
        self._request: tuple[Command, StoreRequest, ReceivedDataSet, int] | None = None
        """The C-STORE whose data set comes, and the presentation context that it comes on."""
        self._others = False
        """Whether the data set of a message of another kind comes."""
        self._idle = threading.Event()
        self._idle.set()
        association._reactor_checkpoint = _Checkpoint(self._idle)
        self._look = self._dul._is_transport_event
        self._dul._is_transport_event = self.look

    def look(self) -> bool:
        """Takes the place of the library's look at the connection; whether something came, as it wants to know."""
        if self._dul.state_machine.current_state != _ESTABLISHED:
            return bool(self._look())
        if self._reader.has_returned:
            self._dul._read_pdu_data()
            return True
        if not self._dul.socket.ready:
            return False  # not the library's look again: what comes in between would be read by it
        self._idle.clear()
        try:
            while self._take_pdu():
                self._dul._idle_timer.restart()
                if self._is_wanted_elsewhere() or not self._has_more():
                    break
        finally:
            self._idle.set()
        return True

    def discard(self) -> None:
        """Remove what was received and not kept, after the association's end."""
        if self._request is not None:
            self._request[2].close()
            self._request = None

    def _is_wanted_elsewhere(self) -> bool:
        dul = self._dul
        return dul._kill_thread or self._association._kill or not dul.to_provider_queue.empty()

    def _has_more(self) -> bool:
        """Whether something comes soon."""
        connection = self._dul.socket.socket
        try:
            if isinstance(connection, ssl.SSLSocket) and connection.pending():
                return True
            return bool(select.select([connection], [], [], _NEXT_WITHIN_S)[0])
        except (OSError, TypeError, ValueError):  # closed meanwhile, or gone; the library finds that out
            return False

    def _take_pdu(self) -> bool:
        """Read one PDU and do what is to be done with it; False where the library is to have the next word."""
        head = self._reader.recv(6)
        length = struct.unpack(">xxL", head)[0] if len(head) == 6 else 0
        content = self._reader.recv(length) if length else bytearray()
        if len(head) < 6 or len(content) < length:
            self._dul.event_queue.put(_CONNECTION_CLOSED)
            return False
        if head[0] != _P_DATA:
            self._reader.give_back(head + content)
            return False
        try:
            for context_id, flags, fragment in fragments(content):
                self._take_fragment(context_id, flags, fragment)
        except InvalidMessage as exc:
            _LOG.warning("a message that cannot be read (%s) ends an association", exc)
            self._dul.event_queue.put(_INVALID_PDU)
            return False
        return not self._reader.has_returned

    def _take_fragment(self, context_id: int, flags: int, fragment: memoryview) -> None:
        """Raises InvalidMessage."""
        is_command, is_last = bool(flags & 1), bool(flags & 2)
        if self._others:
            self._reader.give_back(to_pdu(context_id, bytes([flags]) + fragment))
            self._others = not (is_last and not is_command)
        elif self._request is not None:
            command, request, data_set, expected_context = self._request
            if is_command or context_id != expected_context:
                raise InvalidMessage("a data set is interrupted")
            data_set.write(fragment)
            if is_last:
                self._end_store(command, request, data_set, context_id)
        elif not is_command:
            raise InvalidMessage("a data set without a command")
        else:
            self._command += fragment
            self._unread.append(to_pdu(context_id, bytes([flags]) + fragment))
            if len(self._command) > _LONGEST_COMMAND:
                raise InvalidMessage("a command without an end")
            if is_last:
                self._end_command(context_id)

    def _end_command(self, context_id: int) -> None:
        command, unread = parse_command(bytes(self._command)), self._unread
        self._command, self._unread = bytearray(), []
        if not command.is_store_request:
            self._others = command.has_data_set
            self._reader.give_back(b"".join(unread))
            return
        request = StoreRequest(
            command.sop_class_uid, command.sop_instance_uid, self._transfer_syntax(context_id), self._sender()
        )
        uids = (request.sop_class_uid, request.sop_instance_uid)
        head = encode_file_meta(*uids, request.transfer_syntax_uid) if all(is_uid(uid) for uid in uids) else b""
        self._request = (command, request, ReceivedDataSet(self._begin, head), context_id)
        if not command.has_data_set:
            self._end_store(*self._request)

    def _end_store(self, command: Command, request: StoreRequest, data_set: ReceivedDataSet, context_id: int) -> None:
        self._request = None
        try:
            answer = self._answer(request, data_set)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the sender gets an answer and the association goes on
            _LOG.error("a C-STORE failed (%s)", type(exc).__name__)
            answer = StoreAnswer(PROCESSING_FAILURE)
        finally:
            data_set.close()
        longest = self._association.requestor.maximum_length or 0
        values = encode_answer(command, answer.status, answer.comment, longest)
        self._association.dimse.send_fragments(context_id, values)

    def _transfer_syntax(self, context_id: int) -> str:
        for context in self._association.accepted_contexts:
            if context.context_id == context_id:
                return str(context.transfer_syntax[0])
        raise InvalidMessage("a presentation context that was not agreed on")

    def _sender(self) -> Peer:
        peer = self._association.requestor
        return Peer(peer.ae_title if is_ae_title(peer.ae_title) else "", peer.address)


class _Checkpoint(threading.Event):
    """Takes the place of the gate at which the library's other thread, the association's, can be made to wait.

    It comes by every millisecond; with 8 associations that costs a quarter of all images. Here it waits while images
    come.
    """

    def __init__(self, idle: threading.Event) -> None:
        super().__init__()
        self._idle = idle
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Return when the gate is open and the lane idle."""
        while True:
            super().wait()
            self._idle.wait()
            if self.is_set():
                return True
