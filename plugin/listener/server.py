"""The listening socket: a thread looks after each connection, from who it is to what it leaves. Knows no data sets."""

import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from plugin.listener.access_control import (
    CLOSED_AT_ONCE,
    REJECTIONS,
    Caller,
    Refusal,
    caller_refusal,
    connection_refusal,
)
from plugin.listener.bounded_provider import BoundedProvider
from plugin.listener.c_store_receiver import AnswerStore, CStoreReceiver
from plugin.listener.pdu_reader import PduLimits, PduReader
from plugin.listener.received_data_set import BeginFile
from plugin.listener.refusals import Refusals
from plugin.settings.sections import ListenerSettings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the server looks whether it is to stop."""
_COLLECT_EVERY_S = 30
"""pynetdicom's server collects garbage, the process's whole, every so many of those looks."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What the server needs to receive a peer."""

    settings: ListenerSettings
    pdu_limits: PduLimits
    refusals: Refusals
    begin_file: BeginFile
    answer_store: AnswerStore
    tls: ssl.SSLContext | None
    """None for plain TCP."""


class AssociationServer(ThreadedAssociationServer):  # type: ignore[misc, unused-ignore]
    """pynetdicom's server, with limits, and with data sets that go to disk; made through `AE.make_server`."""

    daemon_threads = True
    block_on_close = False  # Listener.stop gives running associations a time of their own
    request_queue_size = 128

    def __init__(self, *args: Any, reception: Reception, **options: Any) -> None:
        self.reception = reception
        self._connections: Counter[str] = Counter()
        self._counting = threading.Lock()
        super().__init__(*args, request_handler=_Connection, **options)
        self._gc = [0, round(_COLLECT_EVERY_S / POLL_S)]

    @contextmanager
    def counted(self, address: str) -> Iterator[Refusal | None]:
        """Count a connection for as long as the block runs; gives why it is one too many."""
        with self._counting:
            self._connections[address] += 1
            refusal = connection_refusal(
                self.reception.settings, address, self._connections.total(), self._connections[address]
            )
        try:
            yield refusal
        finally:
            with self._counting:
                self._connections[address] -= 1
                self._connections += Counter()  # forgets addresses without connections

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed, where socketserver prints to standard error."""
        _LOG.exception("a connection from %s failed", client_address[0])


class _Connection(RequestHandler):  # type: ignore[misc, unused-ignore]
    """A connection from its acceptance to its end."""

    server: AssociationServer
    request: socket.socket

    def handle(self) -> None:
        """Run the association and return when it is over."""
        with self.server.counted(self.client_address[0]) as refusal:
            if refusal in CLOSED_AT_ONCE:
                self._refuse(refusal)
                self.server.shutdown_request(self.request)
                return
            # With Nagle's algorithm our small answers wait for the peer's delayed acknowledgements (40 ms).
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._shakes_hands():
                self._run_association(refusal)

    def _shakes_hands(self) -> bool:
        """Whether TLS is agreed on, or not asked for. In the accepting thread one slow peer would stop them all."""
        reception = self.server.reception
        if reception.tls is None:
            return True
        try:
            self.request = reception.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            with _hung_up_after(self.request, reception.pdu_limits.negotiation_timeout_s):
                self.request.do_handshake()
        except OSError as exc:
            self._refuse(Refusal.TLS, why=str(getattr(exc, "reason", None) or "the connection ended"))
            self.request.close()
            return False
        return True

    def _run_association(self, surplus: Refusal | None) -> None:
        reception, opened = self.server.reception, time.monotonic()
        association = self._create_association()
        association.dimse = BoundedProvider(association)
        reader = PduReader(association, reception.pdu_limits, self._refuse)
        association.dul.socket.recv = reader.recv
        lane = CStoreReceiver(association, reader, reception.begin_file, reception.answer_store)
        association.bind(evt.EVT_REQUESTED, self._answer_request, [surplus])
        association.bind(evt.EVT_CONN_CLOSE, _wake)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        try:
            association.start()
            association.join()
            association.dul.join()
        finally:
            self.request.close()  # the library leaves it open where the peer was quicker
            lane.discard()
        if association.requestor.primitive is None and not reader.has_refused:
            if time.monotonic() - opened >= reception.pdu_limits.negotiation_timeout_s:
                self._refuse(Refusal.TOO_SLOW)
            elif reader.has_read:  # one that says nothing and goes is somebody's look whether the port is open
                self._refuse(Refusal.NO_REQUEST)

    def _answer_request(self, event: Any, surplus: Refusal | None) -> None:
        request = event.assoc.requestor.primitive
        caller = Caller(request.calling_ae_title, request.called_ae_title, self.client_address[0])
        refusal = surplus or caller_refusal(self.server.reception.settings, caller)
        if refusal is not None:
            self._refuse(refusal, caller.calling_ae_title)
            event.assoc.acse.send_reject(*REJECTIONS[refusal])
            event.assoc.kill()

    def _refuse(self, refusal: Refusal, calling_ae_title: str = "", why: str = "") -> None:
        self.server.reception.refusals.count(refusal)
        who = f" ({calling_ae_title.strip()})" if is_ae_title(calling_ae_title) else ""
        reason = f"{refusal.value} ({why})" if why else refusal.value
        _LOG.warning("refused %s%s: %s", self.client_address[0], who, reason)


@contextmanager
def _hung_up_after(connection: ssl.SSLSocket, seconds: float) -> Iterator[None]:
    """End a connection that keeps the block waiting; its own timeout would start anew with each byte."""

    def hang_up() -> None:
        with suppress(OSError):  # it has ended
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own is not made for two threads

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _wake(event: Any) -> None:
    """Let an association end whose peer went before it asked for one; the library waits for its timer."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)
