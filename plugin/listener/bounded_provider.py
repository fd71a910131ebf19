"""DIMSE messages other than C-STORE, processed by pynetdicom with bounds on what is kept in memory."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from plugin.dimse.pynetdicom_internals import abort_for_invalid_pdu
from plugin.listener.c_store_messages import encode_pdu

_LOG = logging.getLogger(__name__)

_LARGEST_IN_MEMORY = 1 << 20
"""Bytes of a command or its data set; a storage commitment request for 4000 instances has half of that."""
_MOST_WAITING = 8
"""Requests that a peer may send ahead of our responses; the negotiation allows one (PS3.7 D.3.3.3)."""


class BoundedProvider(DIMSEServiceProvider):  # type: ignore[misc, unused-ignore]
    """Replaces the message layer of an association that the node accepted."""

    message: Any

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self._send_lock = threading.Lock()

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a whole message; messages of several threads must not interleave (PS3.8 annex E)."""
        with self._send_lock:
            super().send_msg(primitive, context_id)

    def send_fragments(self, context_id: int, values: Sequence[bytes]) -> None:
        """Send an encoded message from the network thread: at once, or after the rest of one that is being sent."""
        with self._send_lock:
            if self.dul.to_provider_queue.empty():
                self.dul.socket.send(b"".join(encode_pdu(context_id, value) for value in values))
                return
            for value in values:
                part = P_DATA()
                part.presentation_data_value_list = [[context_id, value]]
                self.dul.send_pdu(part)

    def receive_primitive(self, primitive: Any) -> None:
        """Take a part of a message; abort the association for a message that is invalid or exceeds the bounds."""
        in_memory = 0
        try:
            super().receive_primitive(primitive)
            if self.message is not None:
                in_memory = max(self.message.encoded_command_set.tell(), self.message.data_set.tell())
        except Exception as exc:  # noqa: BLE001 - from a peer's bytes; the library raises what it likes
            _LOG.warning("aborting an association: a message of the peer does not parse (%s)", type(exc).__name__)
            abort_for_invalid_pdu(self.assoc)
            return
        if in_memory > _LARGEST_IN_MEMORY or self.msg_queue.qsize() > _MOST_WAITING:
            _LOG.warning("aborting an association: a message of the peer is too long, or too many are waiting")
            abort_for_invalid_pdu(self.assoc)
