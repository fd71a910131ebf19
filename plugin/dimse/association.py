"""Open associations with DICOM peers, over TCP or TLS."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import Association, build_role, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

from pipeline.errors import SettingsWrong
from plugin.database.lease import Lease, current_lease
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.errors import PeerFailed
from plugin.settings.destinations import DestinationSettings
from plugin.settings.tls_reload import current_client_context

_LONGEST_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a DICOM peer listens, and whether over TLS."""

    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    tls_server_name: str = ""
    """The name in the peer's certificate; empty: `host`."""


@dataclass(frozen=True, slots=True, order=True)
class ProposedContext:
    """A presentation context to propose: one abstract syntax with one transfer syntax."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the requestor proposes in the negotiation of an association."""

    contexts: tuple[ProposedContext, ...]
    """At most 128 (PS3.8 9.3.2.2)."""
    as_scp_of: tuple[str, ...] = ()
    """SOP classes of which the requestor is the provider (SCP/SCU role selection, PS3.7 D.3.3.4)."""


MOST_CONTEXTS = 128
"""Presentation contexts of an association: their IDs are the odd numbers of a byte (PS3.8 9.3.2.2)."""


class NothingAccepted(PeerFailed):
    """The peer accepts the association, and none of the presentation contexts."""


class EventHandler(NamedTuple):
    """A function that pynetdicom calls for an event, in the form that pynetdicom takes."""

    event: evt.EventType
    function: Callable[[Any], Any]


def peer_address(destination: DestinationSettings) -> PeerAddress:
    """Return the address of a destination. Raises PeerFailed where its certificates cannot be used."""
    try:
        tls = current_client_context(destination, destination.section_name)
    except SettingsWrong as exc:
        raise PeerFailed(str(exc)) from exc
    return PeerAddress(destination.ae_title, destination.host, destination.port, tls, destination.tls_server_name)


@contextmanager
def open_association(
    address: PeerAddress,
    calling_ae_title: str,
    proposal: Proposal,
    timeout_s: float,
    handlers: Sequence[EventHandler] = (),
) -> Iterator[Association]:
    """Open an association for the block, and release it at the end. It breaks off when the thread's lease is over.

    Raises PeerFailed where it is not established, NothingAccepted where that is because no context was accepted.
    """
    if not proposal.contexts:
        raise PeerFailed("there is no presentation context to propose")
    ae = ApplicationEntity(ae_title=calling_ae_title)
    ae.connection_timeout = min(timeout_s, _LONGEST_CONNECT_S)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    for context in proposal.contexts:
        ae.add_requested_context(UID(context.sop_class_uid), UID(context.transfer_syntax_uid))
    connected, lease = threading.Event(), current_lease()
    try:
        association = ae.associate(
            address.host,
            address.port,
            ae_title=address.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_connection, [connected, lease]), *handlers],
            tls_args=(address.tls, address.tls_server_name or address.host) if address.tls is not None else None,
            ext_neg=[build_role(UID(sop_class), scp_role=True) for sop_class in proposal.as_scp_of] or None,
        )
    except OSError as exc:  # a name that no server resolves, before there is a connection
        raise PeerFailed(f"{address.host} cannot be reached ({exc.strerror or type(exc).__name__})") from exc
    if not association.is_established:
        raise _failure(association, connected.is_set(), address)
    try:
        if lease is not None and lease.is_over:
            raise PeerFailed("the delivery ends here, and goes on in this process or another")
        yield association
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()


def send_c_echo(address: PeerAddress, calling_ae_title: str, timeout_s: float) -> int | None:
    """Send a C-ECHO; return the status of the response, None if the peer sent none. Raises PeerFailed."""
    proposal = Proposal((ProposedContext(str(Verification), str(ImplicitVRLittleEndian)),))
    with open_association(address, calling_ae_title, proposal, timeout_s) as association:
        status: int | None = getattr(association.send_c_echo(), "Status", None)
    return status


def accepted_by(association: Association) -> frozenset[ProposedContext]:
    """Return the contexts that the peer accepted, of those that were proposed."""
    return frozenset(
        ProposedContext(str(each.abstract_syntax), str(each.transfer_syntax[0]))
        for each in association.accepted_contexts
        if each.transfer_syntax
    )


def negotiate(
    address: PeerAddress, calling_ae_title: str, contexts: Sequence[ProposedContext], timeout_s: float
) -> frozenset[ProposedContext]:
    """Return which contexts a peer accepts, without sending anything in them. Raises PeerFailed."""
    try:
        with open_association(address, calling_ae_title, Proposal(tuple(contexts)), timeout_s) as association:
            return accepted_by(association)
    except NothingAccepted:
        return frozenset()


def _failure(association: Association, connected: bool, address: PeerAddress) -> PeerFailed:
    """Say why an association was not established, and what to check."""
    peer = f"{address.ae_title} at {address.host}:{address.port}"
    if not connected:
        over_tls = " over TLS; check its certificate, tls_ca and tls_server_name" if address.tls is not None else ""
        return PeerFailed(f"{peer} cannot be reached{over_tls}")
    if association.is_rejected:
        return PeerFailed(f"{peer} rejected the association; check that it knows the AE titles of both sides")
    if association.rejected_contexts and not association.accepted_contexts:
        return NothingAccepted(f"{peer} accepted no presentation context for these objects")
    if address.tls is not None:
        return PeerFailed(f"{peer} ended the negotiation; it may not accept the certificate of the node")
    return PeerFailed(f"{peer} ended the negotiation")


def _on_connection(event: Any, connected: threading.Event, lease: Lease | None) -> None:
    connected.set()
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        if lease is not None:
            lease.breaks_off(connection.socket)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
