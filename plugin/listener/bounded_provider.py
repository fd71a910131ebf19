"""Messages that are no C-STORE, which has store_lane.py: the library's own way, with bounds on what it keeps."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from plugin.listener.c_store_messages import to_pdu

_LOG = logging.getLogger(__name__)

_LARGEST_IN_MEMORY = 1 << 20
"""Bytes of a command or its data set; a storage commitment of 4000 instances has half of it."""
_MOST_WAITING = 8
"""Requests that a peer may send ahead of our answers; it was promised one (PS3.7 D.3.3.3)."""
_INVALID_PDU = "Evt19"  # PS3.8 table 9-10: the state machine aborts the association


class BoundedProvider(DIMSEServiceProvider):  # type: ignore[misc, unused-ignore]
    """The association's message layer, with bounds on what stays in memory."""

    message: Any

    def __init__(self, association: Any) -> None:
        super().__init__(association)
        self._one_message = threading.Lock()

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message whole, whatever thread another one comes from meanwhile (PS3.8 annex E: no interleaving)."""
        with self._one_message:
            super().send_msg(primitive, context_id)

    def send_fragments(self, context_id: int, values: Sequence[bytes]) -> None:
        """Send an encoded message from the network thread: at once, or after the rest of one that is being sent."""
        with self._one_message:
            if self.dul.to_provider_queue.empty():
                self.dul.socket.send(b"".join(to_pdu(context_id, value) for value in values))
                return
            for value in values:
                part = P_DATA()
                part.presentation_data_value_list = [[context_id, value]]
                self.dul.send_pdu(part)

    def receive_primitive(self, primitive: Any) -> None:
        """Take a part of a message. A message that is none, or has no end, aborts the association."""
        in_memory = 0
        try:
            super().receive_primitive(primitive)
            if self.message is not None:
                in_memory = max(self.message.encoded_command_set.tell(), self.message.data_set.tell())
        except Exception as exc:  # noqa: BLE001 - a stranger's bytes, on which the library raises what it likes
            _LOG.warning("a message that cannot be read (%s) ends an association", type(exc).__name__)
            self.dul.event_queue.put(_INVALID_PDU)
            return
        if in_memory > _LARGEST_IN_MEMORY or self.msg_queue.qsize() > _MOST_WAITING:
            _LOG.warning("a message too long, or too many of them, end an association")
            self.dul.event_queue.put(_INVALID_PDU)
