"""Associations that the node opens: TCP or TLS, and a sentence where there is none. Knows no service."""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import Association, build_role, evt

from pipeline.errors import SettingsWrong
from plugin.dimse.application_entity import ApplicationEntity
from plugin.errors import PeerFailed
from plugin.settings.destinations import DestinationSettings
from plugin.settings.tls import client_context

_LONGEST_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a DICOM peer is, and what is spoken there."""

    ae_title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    tls_server_name: str = ""
    """The name that its certificate has; empty: `host`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an association is to be good for."""

    contexts: tuple[tuple[str, str], ...]
    """Pairs of SOP class and transfer syntax; no other combinations are proposed."""
    as_scp_of: tuple[str, ...] = ()
    """SOP classes of which this side is the provider, though it opens the association (PS3.7 D.3.3.4)."""


def address_of(destination: DestinationSettings) -> PeerAddress:
    """Where a destination is. Raises PeerFailed for certificates that cannot be used."""
    try:
        tls = client_context(destination, destination.key)
    except SettingsWrong as exc:
        raise PeerFailed(str(exc)) from exc
    return PeerAddress(destination.ae_title, destination.host, destination.port, tls, destination.tls_server_name)


@contextmanager
def associated(
    address: PeerAddress,
    calling_ae_title: str,
    proposal: Proposal,
    timeout_s: float,
    handlers: Sequence[tuple[Any, ...]] = (),
) -> Iterator[Association]:
    """An association for as long as the block runs; `handlers` are pynetdicom's. Raises PeerFailed."""
    if not proposal.contexts:
        raise PeerFailed("there is nothing to propose")
    ae = ApplicationEntity(ae_title=calling_ae_title)
    ae.connection_timeout = min(timeout_s, _LONGEST_CONNECT_S)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    for sop_class, transfer_syntax in proposal.contexts:
        ae.add_requested_context(UID(sop_class), UID(transfer_syntax))
    connected = threading.Event()
    association = ae.associate(
        address.host,
        address.port,
        ae_title=address.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, _on_connection, [connected]), *handlers],
        tls_args=(address.tls, address.tls_server_name or address.host) if address.tls is not None else None,
        ext_neg=[build_role(UID(sop_class), scp_role=True) for sop_class in proposal.as_scp_of] or None,
    )
    if not association.is_established:
        raise PeerFailed(_why_not(association, connected.is_set(), address))
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()


def _why_not(association: Association, connected: bool, address: PeerAddress) -> str:
    where = f"{address.ae_title} at {address.host}:{address.port}"
    if not connected:
        over_tls = " over TLS; look at its certificate, tls_ca and tls_server_name" if address.tls is not None else ""
        return f"{where} cannot be reached{over_tls}"
    if association.is_rejected:
        return f"{where} refuses the association; look at the AE titles that it knows"
    if address.tls is not None:
        return f"{where} breaks off the negotiation; it may not accept the certificate that the node shows"
    return f"{where} breaks off the negotiation, or accepts no presentation context for these objects"


def _on_connection(event: Any, connected: threading.Event) -> None:
    connected.set()
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
