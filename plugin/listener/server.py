"""The listening socket: accept connections, check who connects, and run each association in a thread of its own."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from pipeline.transfer_syntaxes import READABLE
from plugin.database.audit_log import Peer
from plugin.dimse.pynetdicom_internals import (
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    choose_transfer_syntaxes,
    collect_garbage_every,
    create_association,
    end_without_request,
    replace_layers,
)
from plugin.listener.access_control import (
    CLOSED_WITHOUT_ANSWER,
    ENDED,
    REJECTIONS,
    AssociationRequest,
    Refusal,
    check_request,
)
from plugin.listener.bounded_provider import BoundedProvider
from plugin.listener.c_store_handler import OnRefused
from plugin.listener.c_store_receiver import CStoreReceiver, HandleStore
from plugin.listener.open_connections import OpenConnection, OpenConnections
from plugin.listener.pdu_reader import PduLimits, PduReader
from plugin.listener.received_data_set import BeginFile
from plugin.listener.refusals import RefusalCounter
from plugin.logs import RepeatedRefusals
from plugin.settings.sections import ListenerSettings
from plugin.settings.values import is_ae_title

_LOG = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the server checks whether it has to stop."""
_COLLECT_GARBAGE_EVERY_S = 30
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))
"""An A-ABORT PDU of the service provider, without a reason (PS3.8 9.3.8)."""


@dataclass(frozen=True, slots=True)
class ServerResources:
    """What the server needs for its connections."""

    settings: ListenerSettings
    pdu_limits: PduLimits
    refusals: RefusalCounter
    begin_file: BeginFile
    handle_store: HandleStore
    on_refused: OnRefused
    tls: ssl.SSLContext | None
    """None for plain TCP."""


class AssociationServer(ThreadedAssociationServer):  # type: ignore[misc, unused-ignore]
    """pynetdicom's server with limits, and with data sets written to disk; to be made by `AE.make_server`."""

    daemon_threads = True
    block_on_close = False  # Listener.stop waits for running associations
    request_queue_size = 128

    def __init__(self, *args: Any, resources: ServerResources, **options: Any) -> None:
        self.resources = resources
        self.connections = OpenConnections(resources.settings)
        self.refused = RepeatedRefusals(_LOG, "refused the connection from")
        self.ended = RepeatedRefusals(_LOG, "ended the connection from")
        super().__init__(*args, request_handler=_Connection, **options)
        collect_garbage_every(self, round(_COLLECT_GARBAGE_EVERY_S / POLL_S))

    def service_actions(self) -> None:
        """Do what is due at each poll for connections."""
        super().service_actions()
        self.connections.end_overdue()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that failed; socketserver prints it to standard error."""
        _LOG.exception("the connection from %s failed", client_address[0])


class _Connection(RequestHandler):  # type: ignore[misc, unused-ignore]
    """An accepted connection, in a thread of its own."""

    server: AssociationServer
    request: socket.socket
    connection: OpenConnection
    was_ended = False
    """Whether `end` was called."""

    def handle(self) -> None:
        """Run the association and return at its end."""
        self.connection = OpenConnection(self.client_address[0], self.end)
        with self.server.connections.counted(self.connection) as refusal:
            if refusal in CLOSED_WITHOUT_ANSWER:
                self._refuse(refusal)
                self.server.shutdown_request(self.request)
                return
            # With Nagle's algorithm our small responses wait for the peer's delayed acknowledgements (40 ms).
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._complete_tls_handshake():
                self._run_association(refusal)

    def end(self, why: Refusal) -> None:
        """Abort the association, or end the connection before there is one; for any thread."""
        self.was_ended = True
        self._refuse(why, self.connection.calling_ae_title or "")
        with suppress(OSError):  # it has ended
            if self.connection.calling_ae_title is not None and not isinstance(self.request, ssl.SSLSocket):
                self.request.send(_ABORT, socket.MSG_DONTWAIT)
            # Not an SSLSocket's own, which is not safe with two threads. Whoever reads or writes there wakes up.
            socket.socket.shutdown(self.request, socket.SHUT_RDWR)

    def _complete_tls_handshake(self) -> bool:
        """Return whether the connection can be used: over TLS after a handshake, or plain TCP where that is set.

        In the accepting thread, as pynetdicom does it, one slow peer would block all others.
        """
        resources = self.server.resources
        if resources.tls is None:
            return True
        try:
            self.request = resources.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            with _shut_down_after(self.request, resources.pdu_limits.negotiation_timeout_s):
                self.request.do_handshake()
        except OSError as exc:
            if not self.was_ended:
                self._refuse(Refusal.TLS, detail=str(getattr(exc, "reason", None) or "the connection ended"))
            self.request.close()
            return False
        return True

    def _run_association(self, refusal: Refusal | None) -> None:
        resources, opened = self.server.resources, time.monotonic()
        association = create_association(self)
        reader = PduReader(association, resources.pdu_limits, self._refuse)
        choose_transfer_syntaxes(association, READABLE)
        replace_layers(association, BoundedProvider(association), reader.recv)
        receiver = CStoreReceiver(association, reader, self.connection, resources.begin_file, resources.handle_store)
        association.bind(evt.EVT_REQUESTED, self._on_request, [refusal])
        association.bind(evt.EVT_ACCEPTED, self._on_accepted)
        association.bind(evt.EVT_CONN_CLOSE, _on_close)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        try:
            association.start()
            association.join()
            association.dul.join()
        finally:
            self.request.close()  # the library leaves it open where the peer closed it first
            receiver.discard()
        if association.requestor.primitive is None and not reader.has_refused and not self.was_ended:
            if time.monotonic() - opened >= resources.pdu_limits.negotiation_timeout_s:
                self._refuse(Refusal.TOO_SLOW)
            elif reader.has_read:  # a peer that sends nothing only checks whether the port is open
                self._refuse(Refusal.NO_REQUEST)

    def _on_request(self, event: Any, refusal: Refusal | None) -> None:
        primitive = event.assoc.requestor.primitive
        request = AssociationRequest(primitive.calling_ae_title, primitive.called_ae_title, self.client_address[0])
        refusal = (
            refusal
            or check_request(self.server.resources.settings, request)
            or self.server.connections.request(self.connection, request.calling_ae_title)
        )
        if refusal is not None:
            self._refuse(refusal, request.calling_ae_title)
            event.assoc.acse.send_reject(*REJECTIONS[refusal])
            event.assoc.kill()

    def _on_accepted(self, event: Any) -> None:
        """Say which SOP classes the peer cannot send: it proposed none of the transfer syntaxes that can be read."""
        accepted = {context.abstract_syntax for context in event.assoc.accepted_contexts}
        rejected = [
            f"{context.abstract_syntax} in {context.transfer_syntax[0]}"
            for context in event.assoc.rejected_contexts
            if context.result == TRANSFER_SYNTAXES_NOT_SUPPORTED and context.abstract_syntax not in accepted
        ]
        if rejected:
            more = f", and {len(rejected) - 1} more" if len(rejected) > 1 else ""
            self._refuse(Refusal.TRANSFER_SYNTAX, event.assoc.requestor.ae_title, f"SOP class {rejected[0]}{more}")

    def _refuse(self, refusal: Refusal, calling_ae_title: str = "", detail: str = "") -> None:
        self.server.resources.refusals.count(refusal)
        title = f" ({calling_ae_title.strip()})" if is_ae_title(calling_ae_title) else ""
        reason = f"{refusal.value} ({detail})" if detail else refusal.value
        log = self.server.ended if refusal in ENDED else self.server.refused
        log.refused(f"{self.client_address[0]}{title}", reason)
        self.server.resources.on_refused(Peer(title.strip(" ()"), self.client_address[0]), refusal.value)


@contextmanager
def _shut_down_after(connection: ssl.SSLSocket, seconds: float) -> Iterator[None]:
    """Shut a connection down if the block takes longer; a timeout of the socket would start anew with each byte."""

    def shut_down() -> None:
        with suppress(OSError):  # it has ended
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own is not safe with two threads

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _on_close(event: Any) -> None:
    if event.assoc.requestor.primitive is None:
        end_without_request(event.assoc)
