"""Where a sender takes reports on the commitment that it asked for. From the settings alone: what a peer says of itself
or of others never makes the node open a connection.
"""

from pipeline.errors import SettingsWrong
from plugin.dimse.association import PeerAddress, address_of
from plugin.errors import PeerFailed
from plugin.listener.access_control import within
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import SenderSettings, Settings
from plugin.settings.tls import make_client_context


def find_receiver(settings: Settings, ae_title: str, address: str) -> SenderSettings | DestinationSettings | None:
    """Who takes the reports for a sender that called from an address: the sender with its own host and port, else a
    destination of this AE title.
    """
    for sender in settings.listener.senders:
        if sender.ae_title == ae_title and sender.host and within(address, sender.networks):
            return sender
    for destination in settings.destinations:
        if isinstance(destination, DestinationSettings) and destination.ae_title == ae_title:
            return destination
    return None


def receiver_address(settings: Settings, receiver: SenderSettings | DestinationSettings) -> PeerAddress:
    """Where that is. Raises PeerFailed for certificates that cannot be used."""
    if isinstance(receiver, DestinationSettings):
        return address_of(receiver)
    tls, listener = None, settings.listener
    if receiver.tls:
        try:
            tls = make_client_context(listener.tls_client_ca, "listener.tls_client_ca", listener, "listener")
        except SettingsWrong as exc:
            raise PeerFailed(str(exc)) from exc
    return PeerAddress(receiver.ae_title, receiver.host, receiver.port, tls)
