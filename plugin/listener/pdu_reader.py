"""Reading PDUs from a stranger: none longer than agreed, none slower than allowed. Knows nothing of what is in them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plugin.listener.access_control import Refusal

_LARGEST_REQUEST = 1 << 20
"""Bytes of an A-ASSOCIATE-RQ, for which no length is agreed yet; 128 contexts of 40 transfer syntaxes have a third."""
_HEADER_SLACK = 128
"""Bytes beyond the agreed length: there are senders that leave the headers out of their count."""


@dataclass(frozen=True, slots=True)
class PduLimits:
    """What a peer may ask of us."""

    pdu_bytes: int
    """The length that is agreed on in the negotiation."""
    negotiation_timeout_s: float
    """From the connection to the end of the association request (the standard's ARTIM timer)."""
    idle_timeout_s: float
    """For each PDU after that."""


class PduReader:
    """Takes the place of pynetdicom's `AssociationSocket.recv`, which reads whatever length a header announces.

    It gives fewer bytes than asked for where the connection ends, stalls or is refused; the library ends the
    association then.
    """

    def __init__(self, association: Any, limits: PduLimits, refuse: Callable[[Refusal], None]) -> None:
        self._association = association
        self._limits = limits
        self._tell = refuse
        self.has_read = False
        """Whether anything came."""
        self.has_refused = False
        self._opened = time.monotonic()
        self._returned = bytearray()

    @property
    def has_returned(self) -> bool:
        """Whether `recv` gives something without reading."""
        return bool(self._returned)

    def give_back(self, content: bytes | bytearray) -> None:
        """Let `recv` give these bytes before it reads on; several lots follow each other."""
        self._returned += content

    def recv(self, length: int) -> bytearray:
        """The next `length` bytes of the connection; fewer end the association."""
        if self._returned:
            returned = self._returned[:length]
            del self._returned[:length]
            return returned
        requested = self._association.requestor.primitive is not None
        if length > (self._limits.pdu_bytes + _HEADER_SLACK if requested else _LARGEST_REQUEST):
            self._refuse(Refusal.PDU_TOO_LONG)
            return bytearray()
        deadline = (
            time.monotonic() + self._limits.idle_timeout_s
            if requested
            else self._opened + self._limits.negotiation_timeout_s
        )
        received, count = bytearray(length), 0
        connection = self._association.dul.socket.socket
        try:
            while count < length:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                new = connection.recv_into(memoryview(received)[count:])
                if new == 0:
                    break
                count += new
            connection.settimeout(self._limits.idle_timeout_s)  # for what we send
        except TimeoutError:
            if requested:  # else it is told when the connection has ended, whether it stalled or never began
                self._refuse(Refusal.TOO_SLOW)
        except OSError:  # closed or broken, on either side
            pass
        self.has_read = self.has_read or count > 0
        del received[count:]
        return received

    def _refuse(self, refusal: Refusal) -> None:
        self.has_refused = True
        self._tell(refusal)
