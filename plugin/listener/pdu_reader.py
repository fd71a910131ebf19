"""Read PDUs within bounds: none longer than agreed, none slower than allowed."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plugin.listener.access_control import Refusal

_LARGEST_REQUEST = 1 << 20
"""Bytes of an A-ASSOCIATE-RQ, before any length is agreed on; 128 contexts of 40 transfer syntaxes take a third."""
_HEADER_SLACK = 128
"""Bytes allowed beyond the agreed length: some senders do not count the headers."""
_PDU_HEADER = 6
_TIMEOUT_STEP = 0.01
"""The part of its timeout by which a socket may wait too long, so that each receive does not set the timeout anew."""


@dataclass(frozen=True, slots=True)
class PduLimits:
    """What a peer may send, and how slowly."""

    pdu_bytes: int
    """The maximum length that the negotiation agrees on."""
    negotiation_timeout_s: float
    """From the connection to the end of the association request (the standard's ARTIM timer)."""
    idle_timeout_s: float
    """For each PDU after that."""


def acknowledge_at_once(connection: socket.socket) -> None:
    """Have the kernel acknowledge what was received now; it forgets this, so it is needed after each receive.

    A sender with Nagle's algorithm keeps back its last, small segment until that, for 40 ms of an image on Linux. Other
    systems have no such option.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class PduReader:
    """Replaces pynetdicom's `AssociationSocket.recv`, which reads whatever length a PDU header announces.

    It returns fewer bytes than asked for where the connection ends, is too slow or exceeds a limit; the library ends
    the association then.
    """

    def __init__(self, association: Any, limits: PduLimits, on_refusal: Callable[[Refusal], None]) -> None:
        self._association = association
        self._limits = limits
        self._on_refusal = on_refusal
        self.has_read = False
        """Whether the peer sent anything."""
        self.has_refused = False
        """Whether a limit was exceeded."""
        self._opened = time.monotonic()
        self._unread = bytearray()
        self._buffer = memoryview(b"")
        """What `read` received, and room for more."""
        self._start = self._end = 0
        """Of the bytes in the buffer that `read` has not returned yet."""

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes that only `recv` returns."""
        return bool(self._unread)

    @property
    def has_ahead(self) -> bool:
        """Whether `read` received more than it returned."""
        return self._start < self._end

    def unread(self, content: bytes | bytearray) -> None:
        """Let `recv` return these bytes before it reads on, after those of earlier calls."""
        self._unread += content

    def recv(self, length: int) -> bytearray:
        """Return the next `length` bytes of the connection; fewer where it ended or exceeded a limit."""
        if self._unread:
            unread = self._unread[:length]
            del self._unread[:length]
            return unread
        if self.has_ahead:
            return bytearray(self.read(length))
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
                acknowledge_at_once(connection)
                if new == 0:
                    break
                count += new
            connection.settimeout(self._limits.idle_timeout_s)  # for what we send
        except TimeoutError:
            if requested:  # otherwise the server reports it at the end of the connection, silent or begun
                self._refuse(Refusal.TOO_SLOW)
        except OSError:  # closed or broken, by either side
            pass
        self.has_read = self.has_read or count > 0
        del received[count:]
        return received

    def read(self, length: int) -> memoryview:
        """Return what `recv` would, of an established association; the bytes are valid until the next call.

        It receives whatever has come, up to the size of a PDU: most senders write small PDUs, or a PDU in small parts,
        and each receive takes system calls and turns of the interpreter.
        """
        if length > self._limits.pdu_bytes + _HEADER_SLACK:
            self._refuse(Refusal.PDU_TOO_LONG)
            return memoryview(b"")
        if self._end - self._start < length:
            self._receive(length)
        found = self._buffer[self._start : min(self._start + length, self._end)]
        self._start += len(found)
        return found

    def _receive(self, length: int) -> None:
        """Receive until there are `length` bytes in the buffer; fewer where the connection ended or is too slow."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(_PDU_HEADER + self._limits.pdu_bytes + _HEADER_SLACK))
        count = self._end - self._start
        if not count or self._start + length > len(self._buffer):
            self._buffer[:count] = self._buffer[self._start : self._end]
            self._start, self._end = 0, count
        timeout = idle_timeout = self._limits.idle_timeout_s  # which `recv` has left in force
        deadline = time.monotonic() + idle_timeout
        connection = self._association.dul.socket.socket
        try:
            while self._end - self._start < length:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                if left < timeout - idle_timeout * _TIMEOUT_STEP:
                    timeout = left
                    connection.settimeout(timeout)
                new = connection.recv_into(self._buffer[self._end :])
                acknowledge_at_once(connection)
                if new == 0:
                    break
                self._end += new
            if timeout != idle_timeout:
                connection.settimeout(idle_timeout)
        except TimeoutError:
            self._refuse(Refusal.TOO_SLOW)
        except OSError:  # closed or broken, by either side
            pass

    def _refuse(self, refusal: Refusal) -> None:
        self.has_refused = True
        self._on_refusal(refusal)
