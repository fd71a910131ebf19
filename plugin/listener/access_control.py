"""Decide from the settings who may open an association, and with which answer anybody else is refused."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from plugin.settings.sections import ListenerSettings


class Refusal(StrEnum):
    """Why a connection or an association was refused; `glionode status` shows these texts."""

    ADDRESS = "address not allowed"
    CALLING_AE_TITLE = "calling AE title not allowed"
    CALLED_AE_TITLE = "called by another AE title"
    TOO_MANY_ASSOCIATIONS = "too many associations"
    TOO_MANY_OF_PEER = "too many associations of one address"
    TOO_MANY_OF_TITLE = "too many associations of one AE title"
    TOO_MANY_CONNECTIONS = "too many connections"
    TLS = "TLS handshake failed"
    NO_REQUEST = "no association request"
    PDU_TOO_LONG = "PDU longer than agreed"
    TOO_SLOW = "too slow"
    GAVE_WAY = "useless for longest, ended for another connection"
    USELESS = "nothing but C-ECHO for too long"
    STOPPING = "still open when the node stopped"
    TRANSFER_SYNTAX = "no transfer syntax that can be read"
    """For a SOP class; other presentation contexts of the association are accepted."""


CLOSED_WITHOUT_ANSWER = frozenset({Refusal.ADDRESS, Refusal.TOO_MANY_CONNECTIONS})
"""The connection is closed before anything is read from it."""

TOO_MANY = frozenset({Refusal.TOO_MANY_ASSOCIATIONS, Refusal.TOO_MANY_OF_PEER, Refusal.TOO_MANY_CONNECTIONS})
"""A connection that is useless may end for the new one."""

ENDED = frozenset({Refusal.GAVE_WAY, Refusal.USELESS, Refusal.STOPPING})
"""The connection was accepted before."""


class Rejection(NamedTuple):
    """The fields of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    """1: permanent, 2: transient."""
    source: int
    reason: int


REJECTIONS = {
    Refusal.CALLING_AE_TITLE: Rejection(1, 1, 3),
    Refusal.CALLED_AE_TITLE: Rejection(1, 1, 7),
    Refusal.TOO_MANY_ASSOCIATIONS: Rejection(2, 3, 2),
    Refusal.TOO_MANY_OF_PEER: Rejection(2, 3, 2),
    Refusal.TOO_MANY_OF_TITLE: Rejection(2, 3, 2),
}

_ANSWERED_BEYOND_LIMIT = 2
"""Connections beyond the limit are answered with a rejection up to this multiple of it, and closed beyond."""


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says of its requestor, and where it came from."""

    calling_ae_title: str
    called_ae_title: str
    address: str


def check_connection(
    settings: ListenerSettings, address: str, connections: int, connections_of_peer: int
) -> Refusal | None:
    """Return why a connection is refused before anything is read from it, None if it is not.

    The counts, of all peers and of this address, include the connection.
    """
    if not _is_address_allowed(settings, address):
        return Refusal.ADDRESS
    most, most_of_peer = settings.max_associations, settings.max_associations_per_peer
    if connections > _ANSWERED_BEYOND_LIMIT * most or connections_of_peer > _ANSWERED_BEYOND_LIMIT * most_of_peer:
        return Refusal.TOO_MANY_CONNECTIONS
    if connections > most:
        return Refusal.TOO_MANY_ASSOCIATIONS
    if connections_of_peer > most_of_peer:
        return Refusal.TOO_MANY_OF_PEER
    return None


def check_request(settings: ListenerSettings, request: AssociationRequest) -> Refusal | None:
    """Return why an association is refused for its AE titles, None if it is not."""
    if settings.check_called_ae_title and request.called_ae_title.strip() != settings.ae_title:
        return Refusal.CALLED_AE_TITLE
    calling = request.calling_ae_title.strip()
    if calling in settings.calling_ae_titles or not (settings.calling_ae_titles or settings.senders):
        return None
    if any(calling == each.ae_title and is_in_networks(request.address, each.networks) for each in settings.senders):
        return None
    return Refusal.CALLING_AE_TITLE


def check_title(settings: ListenerSettings, associations: int) -> Refusal | None:
    """Return why an association is refused for the others of its AE title; the count includes it."""
    return Refusal.TOO_MANY_OF_TITLE if associations > settings.max_associations_per_ae_title else None


def is_in_networks(address: str, networks: tuple[str, ...]) -> bool:
    """Return whether an address is in one of these networks; no networks mean any address."""
    found = _parse_address(address)
    return not networks or any(found in ip_network(network) for network in networks)


def _is_address_allowed(settings: ListenerSettings, address: str) -> bool:
    if settings.calling_ae_titles or not settings.senders:
        return True
    return any(is_in_networks(address, sender.networks) for sender in settings.senders)


def _parse_address(address: str) -> IPv4Address | IPv6Address:
    """Parse an address without what a socket adds: the zone of a link, and ::ffff: before IPv4 on a dual-stack one."""
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
