"""Send objects to a DICOM peer by C-STORE, and check that it responds by C-ECHO."""

from collections.abc import Sequence

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import Association

from plugin.database.audit_log import Peer
from plugin.delivery.sender import NotSent, Outcome, Outcomes, Outgoing, Sent
from plugin.dimse.association import (
    STORED_WITH_WARNING,
    Proposal,
    ProposedContext,
    open_association,
    peer_address,
    send_c_echo,
)
from plugin.errors import PeerFailed
from plugin.settings.destinations import DestinationSettings

_SUCCESS = 0x0000


class DimseSender:
    """Sends to one DICOM peer, over one association per call."""

    def __init__(self, destination: DestinationSettings, calling_ae_title: str, timeout_s: float) -> None:
        self._destination = destination
        self._calling_ae_title = calling_ae_title
        self._timeout_s = timeout_s

    @property
    def peer(self) -> Peer:
        """The AE title and address of the peer."""
        return Peer(self._destination.ae_title, f"{self._destination.host}:{self._destination.port}")

    def send(self, objects: Sequence[Outgoing]) -> Outcomes:
        """Send objects one after the other, each in the transfer syntax of its file. Raises PeerFailed.

        They may have at most 128 combinations of SOP class and transfer syntax: so many presentation contexts can be
        proposed (PS3.8 9.3.2.2).
        """
        contexts = tuple(sorted({ProposedContext(each.sop_class_uid, each.transfer_syntax_uid) for each in objects}))
        address = peer_address(self._destination)
        with open_association(address, self._calling_ae_title, Proposal(contexts), self._timeout_s) as association:
            for each in objects:
                yield each, _store(association, each)

    def echo(self) -> str:
        """Send a C-ECHO; return what the peer says. Raises PeerFailed."""
        status = send_c_echo(peer_address(self._destination), self._calling_ae_title, self._timeout_s)
        if status is None:
            raise PeerFailed("it did not respond to a C-ECHO")
        if status != _SUCCESS:
            raise PeerFailed(_status_text(status))
        return "it answers"


def _store(association: Association, outgoing: Outgoing) -> Outcome:
    path = outgoing.entry.path
    try:
        status = getattr(association.send_c_store(dcmread(path)), "Status", None)
    except (OSError, InvalidDicomError) as exc:
        return NotSent(f"the file {path} cannot be read ({type(exc).__name__})")
    except ValueError:  # no presentation context was accepted for it
        return NotSent("it accepted no presentation context for the SOP class and transfer syntax of this object")
    except RuntimeError as exc:
        raise PeerFailed("it ended the association") from exc
    if status is None:
        raise PeerFailed("it did not respond to a C-STORE")
    if status == _SUCCESS:
        return Sent()
    return (
        Sent(f"stored with warning 0x{status:04X}") if status in STORED_WITH_WARNING else NotSent(_status_text(status))
    )


def _status_text(status: int) -> str:
    return f"it responded with status 0x{status:04X}"
