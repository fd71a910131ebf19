"""Who may open an association, and why not. Decides from settings and numbers; no socket, no log, no clock."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from plugin.settings.sections import ListenerSettings


class Refusal(StrEnum):
    """Why a peer is not listened to; the texts are shown by `status`."""

    ADDRESS = "address not allowed"
    CALLING_AE_TITLE = "calling AE title not allowed"
    CALLED_AE_TITLE = "called by another AE title"
    TOO_MANY_ASSOCIATIONS = "too many associations"
    TOO_MANY_OF_PEER = "too many associations of one address"
    TOO_MANY_CONNECTIONS = "too many connections"
    TLS = "TLS handshake failed"
    NO_REQUEST = "no association request"
    PDU_TOO_LONG = "PDU longer than agreed"
    TOO_SLOW = "too slow"


CLOSED_AT_ONCE = frozenset({Refusal.ADDRESS, Refusal.TOO_MANY_CONNECTIONS})
"""What is not worth an answer; the connection is closed."""

# PS3.8 table 9-21: result (1 permanent, 2 transient), source, reason.
REJECTIONS = {
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.TOO_MANY_ASSOCIATIONS: (2, 3, 2),
    Refusal.TOO_MANY_OF_PEER: (2, 3, 2),
}

_ANSWERED_BEYOND_LIMIT = 2
"""Up to so many times the limit a surplus connection gets the answer that there are too many; beyond, it is closed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association."""

    calling_ae_title: str
    called_ae_title: str
    address: str


def connection_refusal(
    settings: ListenerSettings, address: str, connections: int, connections_of_peer: int
) -> Refusal | None:
    """Whether a connection is refused before anything is read from it. The numbers include it."""
    if not _address_may_speak(settings, address):
        return Refusal.ADDRESS
    most, most_of_peer = settings.max_associations, settings.max_associations_per_peer
    if connections > _ANSWERED_BEYOND_LIMIT * most or connections_of_peer > _ANSWERED_BEYOND_LIMIT * most_of_peer:
        return Refusal.TOO_MANY_CONNECTIONS
    if connections > most:
        return Refusal.TOO_MANY_ASSOCIATIONS
    if connections_of_peer > most_of_peer:
        return Refusal.TOO_MANY_OF_PEER
    return None


def caller_refusal(settings: ListenerSettings, caller: Caller) -> Refusal | None:
    """Whether an association is refused for its AE titles."""
    if settings.check_called_ae_title and caller.called_ae_title.strip() != settings.ae_title:
        return Refusal.CALLED_AE_TITLE
    calling = caller.calling_ae_title.strip()
    if calling in settings.calling_ae_titles or not (settings.calling_ae_titles or settings.senders):
        return None
    if any(calling == sender.ae_title and within(caller.address, sender.networks) for sender in settings.senders):
        return None
    return Refusal.CALLING_AE_TITLE


def _address_may_speak(settings: ListenerSettings, address: str) -> bool:
    if settings.calling_ae_titles or not settings.senders:
        return True
    return any(within(address, sender.networks) for sender in settings.senders)


def within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of these ranges; no ranges mean any address."""
    found = _plain(address)
    return not networks or any(found in ip_network(network) for network in networks)


def _plain(address: str) -> IPv4Address | IPv6Address:
    """An address without what a socket adds: the zone of a link, and ::ffff: before IPv4 on a socket for both."""
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
