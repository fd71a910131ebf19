"""Every use of a private name of pynetdicom, and every replacement of a part of it, in one module.

They are needed where the library loses a response, leaves a connection open, or is too slow or too unbounded for a node
that anybody on the network can reach. tests/plugin/dimse/test_pynetdicom_internals.py checks each of them against the
installed version and says what an upgrade would break.
"""

import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom import AE, Association, _config
from pynetdicom.acse import ACSE
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.transport import AddressInformation, AssociationSocket, RequestHandler, ThreadedAssociationServer

TRIED_WITH = ("3.0.4",)
"""The versions of pynetdicom that all of this was tried with."""

TRANSFER_SYNTAXES_NOT_SUPPORTED = 0x04
"""Result of a presentation context (PS3.8 table 9-18)."""

_LONGEST_PAUSE_S = 1.0
"""Waited for a reactor that has ended, or that pauses itself; a running one arrives every millisecond."""

# PS3.8 table 9-10: states and events of the upper layer's state machine, by the library's names.
_ESTABLISHED = "Sta6"
_CONNECTION_CLOSED, _INVALID_PDU = "Evt17", "Evt19"


# Both sides -----------------------------------------------------------------------------------------------------------


def abort_for_invalid_pdu(association: Association) -> None:
    """Let the state machine abort an association whose peer sent an invalid PDU or message."""
    association.dul.event_queue.put(_INVALID_PDU)


def replace_request_handler(association: Association, handle: Callable[[Any, int], None]) -> None:
    """Have `handle` called with each request of the peer (the DIMSE primitive and its presentation context ID)."""
    association._serve_request = handle


# The requestor's side -------------------------------------------------------------------------------------------------


class ApplicationEntity(AE):  # type: ignore[misc, unused-ignore]
    """pynetdicom's AE for opening associations, with two faults corrected.

    A response may get lost, see `ReactorPause`. And a connection that the peer refused or reset stays open until it is
    garbage collected, see `_ClosedSocket`.
    """

    def associate(self, *arguments: Any, **options: Any) -> Association:
        """Request an association; parameters and result are those of pynetdicom."""
        association = super().associate(*arguments, **options)
        if association.is_established:  # and nothing has been sent yet
            association._reactor_checkpoint = ReactorPause()
        return association

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        connection = _ClosedSocket(assoc, address=address)
        connection.tls_args = tls_args
        return connection


class _ClosedSocket(AssociationSocket):  # type: ignore[misc, unused-ignore]
    """A connection that is closed at its end; the library leaves it open where the peer has shut it down first."""

    def _shutdown_socket(self) -> None:
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class ReactorPause(threading.Event):
    """Replaces `Association._reactor_checkpoint`, the event at which the association's reactor thread is paused.

    To send a message, the library clears the event and polls the flag `_is_paused` until the reactor has stopped. About
    once in 300 messages on a busy machine the flag is stale: the reactor runs on, takes the response for a message that
    nobody expects, and the sender waits for it until its timeout. Here `clear` returns once the reactor has stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._may_run = True
        self._is_stopped = False
        self._changed = threading.Condition()

    def is_set(self) -> bool:
        """Return whether the reactor may run."""
        return self._may_run

    def set(self) -> None:
        """Let the reactor run."""
        with self._changed:
            self._may_run = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Pause the reactor; return when it has stopped."""
        with self._changed:
            self._may_run = False
            self._changed.wait_for(lambda: self._is_stopped, _LONGEST_PAUSE_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Return when the reactor, which calls this, may run."""
        with self._changed:
            self._is_stopped = not self._may_run
            self._changed.notify_all()
            may_run = self._changed.wait_for(lambda: self._may_run, timeout)
            self._is_stopped = False
            return may_run


# The acceptor's side --------------------------------------------------------------------------------------------------


def accept_every_storage_class() -> None:
    """Accept also private and future storage classes, which pynetdicom refuses otherwise; in the whole process."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True


def register_server(server: ThreadedAssociationServer) -> None:
    """Add a server made by `AE.make_server` to those of its AE, from which its `shutdown` removes it."""
    server.ae._servers.append(server)


def collect_garbage_every(server: ThreadedAssociationServer, polls: int) -> None:
    """Set after how many polls for connections the server collects the garbage of the whole process."""
    server._gc = [0, polls]


def create_association(handler: RequestHandler) -> Association:
    """Create the association of an accepted connection; it is not started yet."""
    return handler._create_association()


def replace_layers(association: Association, dimse: DIMSEServiceProvider, recv: Callable[[int], bytearray]) -> None:
    """Replace the message layer of an association that is not started, and the function that reads its connection."""
    association.dimse = dimse
    association.dul.socket.recv = recv


def choose_transfer_syntaxes(association: Association, preference: Sequence[str]) -> None:
    """Let an association that is not started agree on the best transfer syntax of each presentation context.

    `preference` are transfer syntaxes, the best first. For storage the library accepts whatever the requestor names
    first; here a context without any of them is rejected (`TRANSFER_SYNTAXES_NOT_SUPPORTED`).
    """
    association.acse = _ChoosingAcse(association, tuple(preference))


class _ChoosingAcse(ACSE):  # type: ignore[misc, unused-ignore]
    """The negotiation of an acceptor, with its own preference of transfer syntaxes."""

    def __init__(self, association: Association, preference: tuple[str, ...]) -> None:
        super().__init__(association)
        self._preference = preference

    def _negotiate_as_acceptor(self) -> None:
        rank = {uid: number for number, uid in enumerate(self._preference)}
        for context in self.requestor.primitive.presentation_context_definition_list:
            context.transfer_syntax = sorted(context.transfer_syntax, key=lambda uid: rank.get(uid, len(rank)))
        super()._negotiate_as_acceptor()

    def send_accept(self) -> None:
        """Send the answer to the request, without contexts in a transfer syntax that is not among the preferred."""
        for number, context in list(self.assoc._accepted_cx.items()):
            if context.transfer_syntax[0] not in self._preference:
                context.result = TRANSFER_SYNTAXES_NOT_SUPPORTED
                self.assoc._rejected_cx.append(self.assoc._accepted_cx.pop(number))
        super().send_accept()


def end_without_request(association: Association) -> None:
    """End an association whose peer closed the connection before it requested one; the library waits for its timer."""
    association.dul.to_user_queue.put(None)


class NetworkThread:
    """The network thread of an accepted association (the library's DUL reactor), with its reading taken over.

    The library's own way of a message leads through two threads that poll their queues every millisecond. While an
    association is established, this calls `read` where the library would look for incoming PDUs. `read` returns
    whether something came; it may wait, which delays the library's look at its timers and queues.
    """

    def __init__(self, association: Association, read: Callable[[], bool]) -> None:
        self._association = association
        self._dul = association.dul
        self._read = read
        self._library_poll = self._dul._is_transport_event
        self._dul._is_transport_event = self._poll
        self.reactor_gate = ReactorGate()
        association._reactor_checkpoint = self.reactor_gate

    def _poll(self) -> bool:
        established = self._dul.state_machine.current_state == _ESTABLISHED
        return self._read() if established else bool(self._library_poll())

    def has_other_work(self) -> bool:
        """Return whether the library has something to send, or is to end the thread."""
        dul = self._dul
        return bool(dul._kill_thread or self._association._kill or not dul.to_provider_queue.empty())

    def read_pdu_by_library(self) -> None:
        """Have the library read one PDU and process it."""
        self._dul._read_pdu_data()

    def restart_idle_timer(self) -> None:
        """Start the network timeout anew."""
        self._dul._idle_timer.restart()

    def close_connection(self) -> None:
        """Tell the state machine that the peer closed the connection."""
        self._dul.event_queue.put(_CONNECTION_CLOSED)


class ReactorGate(threading.Event):
    """Replaces `Association._reactor_checkpoint` of an acceptor; it also stops the reactor while images are received.

    The reactor arrives here every millisecond; with 8 associations that costs a quarter of all images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self._released = threading.Event()
        self._released.set()

    def hold(self) -> None:
        """Stop the reactor when it arrives next."""
        self._released.clear()

    def release(self) -> None:
        """Let the reactor run, unless the library has paused it."""
        self._released.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Return when neither the library nor `hold` stops the reactor, which calls this."""
        while True:
            super().wait()
            self._released.wait()
            if self.is_set():
                return True
