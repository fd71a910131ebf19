"""C-STORE data sets from the association to the disk as they come, so that memory does not grow with an object.

The library's own way (pynetdicom's STORE_RECV_CHUNKED_DATASET) writes to the system's folder for temporary files, from
where nothing can be linked into the archive, forgets the file when the association breaks off, and dies of a full disk.
"""

import logging
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage

from plugin.archive import is_uid
from plugin.file_meta import encode_file_meta
from plugin.incoming import IncomingFile, NoRoom

_LOG = logging.getLogger(__name__)

_LARGEST_IN_MEMORY = 1 << 20
"""Bytes of a command, and of a data set that is no C-STORE's; a storage commitment of 4000 instances has half of it."""
_MOST_WAITING = 8
"""Requests that a peer may send ahead of our answers; it was promised one (PS3.7 D.3.3.3), and each holds a file."""
_INVALID_PDU = "Evt19"  # PS3.8 table 9-10: the state machine aborts the association

BeginFile = Callable[[], IncomingFile]


class ReceivedDataSet(BytesIO):
    """A data set that the library takes for one in memory. That of a C-STORE goes to a file, with a head before it."""

    def __init__(self, association: Any, message: DIMSEMessage, begin: BeginFile) -> None:
        super().__init__()
        self._association = association
        self._message: DIMSEMessage | None = message
        self._begin = begin
        self._head_bytes = 0
        self.file: IncomingFile | None = None
        """Where a C-STORE's bytes are; None where there were none, or no room."""
        self.no_room: NoRoom | None = None
        """Why the bytes are not there; the rest of them is let pass, so that the sender gets its answer."""

    def write(self, chunk: Any) -> int:
        """Append bytes; does not raise where the disk is full."""
        if not isinstance(self._message, C_STORE_RQ):
            return super().write(chunk)
        if self.no_room is None:
            try:
                if self.file is None:
                    self.file = self._begin()
                    head = self._head(self._message)
                    self._head_bytes = len(head)
                    self.file.write(head)
                self.file.write(chunk)
            except NoRoom as exc:
                self.no_room = exc
                self._let_go()
        return len(chunk)

    def encoded(self) -> BinaryIO:
        """The data set as it came, as a stream that stands at its beginning."""
        return self.file.read_from(self._head_bytes) if self.file is not None else BytesIO()

    def close(self) -> None:
        """Remove what was not kept."""
        self._let_go()
        self._message = None
        super().close()

    def _let_go(self) -> None:
        if self.file is not None:
            self.file.discard()
            self.file = None

    def _head(self, message: DIMSEMessage) -> bytes:
        """The file meta information; empty for a command that names no instance, which is refused later."""
        uids = [str(message.command_set.get(name, "")) for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")]
        syntaxes = [
            str(context.transfer_syntax[0])
            for context in self._association.accepted_contexts
            if context.context_id == message.context_id
        ]
        return encode_file_meta(*uids, *syntaxes) if syntaxes and all(is_uid(uid) for uid in uids) else b""


class StreamingProvider(DIMSEServiceProvider):  # type: ignore[misc, unused-ignore]
    """The association's message layer, with data sets that go to disk and bounds on what stays in memory."""

    def __init__(self, association: Any, begin: BeginFile) -> None:
        super().__init__(association)
        self.message: Any = None
        self._begin = begin
        self._data_sets: list[ReceivedDataSet] = []
        self._one_message = threading.Lock()

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message whole, whatever thread another one comes from meanwhile (PS3.8 annex E: no interleaving)."""
        with self._one_message:
            super().send_msg(primitive, context_id)

    def receive_primitive(self, primitive: Any) -> None:
        """Take a part of a message. A message that is none, or has no end, aborts the association."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = ReceivedDataSet(self.assoc, self.message, self._begin)
            self._data_sets = [data_set for data_set in self._data_sets if not data_set.closed]
            self._data_sets.append(self.message.data_set)
        message = self.message
        try:
            super().receive_primitive(primitive)
        except Exception as exc:  # noqa: BLE001 - a stranger's bytes, on which the library raises what it likes
            _LOG.warning("a message that cannot be read (%s) ends an association", type(exc).__name__)
            self.dul.event_queue.put(_INVALID_PDU)
            return
        in_memory = max(message.encoded_command_set.tell(), message.data_set.tell())
        if in_memory > _LARGEST_IN_MEMORY or self.msg_queue.qsize() > _MOST_WAITING:
            _LOG.warning("a message too long, or too many of them, end an association")
            self.dul.event_queue.put(_INVALID_PDU)

    def discard(self) -> None:
        """Remove what was received and not kept, after the association's end."""
        for data_set in self._data_sets:
            data_set.close()
