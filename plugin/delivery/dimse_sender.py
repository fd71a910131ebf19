"""Send objects to a DICOM peer by C-STORE, and check that it responds by C-ECHO."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import Association

from plugin.database.audit_log import Peer
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outcomes, Outgoing, Sent, TakenClass
from plugin.dimse.association import (
    MOST_CONTEXTS,
    NothingAccepted,
    Proposal,
    ProposedContext,
    negotiate,
    open_association,
    peer_address,
    send_c_echo,
)
from plugin.dimse.find_instance import InstanceName, find_instances
from plugin.dimse.response_status import Consequence, explained, store_meaning
from plugin.dimse.store_file import NoContext, send_file, store_contexts
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
        """Send objects one after the other, each in the transfer syntax of its file or converted. Raises PeerFailed.

        An object that the peer says to have already is delivered where it commits to it, or lists it when it is asked.
        """
        claimed: list[tuple[Outgoing, int]] = []
        for group in _groups(objects):
            for each, outcome in self._send_group(group):
                if isinstance(outcome, _Claimed):
                    claimed.append((each, outcome.status))
                else:
                    yield each, outcome
        if claimed:  # the association for storing is closed: some peers allow one at a time
            yield from self._ask_for(claimed)

    def echo(self) -> str:
        """Send a C-ECHO; return what the peer says. Raises PeerFailed."""
        status = send_c_echo(peer_address(self._destination), self._calling_ae_title, self._timeout_s)
        if status is None:
            raise PeerFailed("it did not respond to a C-ECHO")
        if status != _SUCCESS:
            raise PeerFailed(_status_text(status))
        return "it answers"

    def taken_classes(self, sop_class_uids: Sequence[str]) -> tuple[TakenClass, ...]:
        """Ask in which transfer syntaxes the peer takes objects of these classes. Raises PeerFailed."""
        proposed = {uid: store_contexts(uid, str(ExplicitVRLittleEndian)) for uid in sop_class_uids}
        contexts = [context for each in proposed.values() for context in each]
        taken = negotiate(peer_address(self._destination), self._calling_ae_title, contexts, self._timeout_s)
        return tuple(
            TakenClass(uid, tuple(each.transfer_syntax_uid for each in contexts if each in taken))
            for uid, contexts in proposed.items()
        )

    def _send_group(self, group: "_Group") -> "Iterator[tuple[Outgoing, Outcome | _Claimed]]":
        address = peer_address(self._destination)
        proposal = Proposal(group.contexts)
        try:
            with open_association(address, self._calling_ae_title, proposal, self._timeout_s) as association:
                for number, each in enumerate(group.objects):
                    if number and not association.is_established:  # it may limit what it takes over one association
                        raise BrokenOff("it ended the association between two objects", ())
                    yield each, _store(association, each, number)
        except NothingAccepted:
            for each in group.objects:
                yield each, _class_not_accepted(each)

    def _ask_for(self, claimed: Sequence[tuple[Outgoing, int]]) -> Outcomes:
        """Yield the outcomes of objects that the peer says to have, or may have, already."""
        if self._destination.storage_commitment:
            for each, status in claimed:
                yield each, Sent(f"{_status_text(status)}; whether it has the object is for storage commitment to say")
            return
        names = {_name(each): (each, status) for each, status in claimed}
        try:
            address = peer_address(self._destination)
            found = find_instances(address, self._calling_ae_title, tuple(names), self._timeout_s)
        except PeerFailed as exc:
            for each, status in claimed:
                yield (
                    each,
                    NotSent(
                        f"{_status_text(status)} ({store_meaning(status).text}), and cannot be asked whether it has "
                        f"the object ({exc}); let it answer C-FIND, or set storage_commitment"
                    ),
                )
            return
        for name, (each, status) in names.items():
            if name in found:
                yield each, Sent(f"{_status_text(status)}, and a query finds the object there")
            else:
                yield (
                    each,
                    NotSent(
                        f"{_status_text(status)} ({store_meaning(status).text}), but a query does not find the object "
                        "there; look for its UID at the destination"
                    ),
                )


@dataclass(frozen=True, slots=True)
class _Group:
    """Objects that one association can carry."""

    objects: tuple[Outgoing, ...]
    contexts: tuple[ProposedContext, ...]


@dataclass(frozen=True, slots=True)
class _Claimed:
    """The peer may have the object; its status does not say so."""

    status: int


def _groups(objects: Sequence[Outgoing]) -> Iterator[_Group]:
    group: list[Outgoing] = []
    contexts: set[ProposedContext] = set()
    for each in objects:
        needed = set(store_contexts(each.sop_class_uid, each.transfer_syntax_uid))
        if len(contexts | needed) > MOST_CONTEXTS:
            yield _Group(tuple(group), tuple(sorted(contexts)))
            group, contexts = [], set()
        group.append(each)
        contexts |= needed
    yield _Group(tuple(group), tuple(sorted(contexts)))


def _store(association: Association, outgoing: Outgoing, number: int) -> Outcome | _Claimed:
    path = outgoing.entry.path
    proposed = store_contexts(outgoing.sop_class_uid, outgoing.transfer_syntax_uid)
    try:
        status = send_file(association, Path(path), proposed, number)
    except NoContext:
        return _class_not_accepted(outgoing)
    except PeerFailed as exc:
        raise BrokenOff(str(exc), (outgoing,)) from exc
    except (OSError, InvalidDicomError, AttributeError, ValueError) as exc:
        return NotSent(f"the file {path} cannot be read ({type(exc).__name__})")
    return _outcome(status)


def _outcome(status: int) -> Outcome | _Claimed:
    meaning = store_meaning(status)
    match meaning.consequence:
        case Consequence.STORED:
            return Sent()
        case Consequence.STORED_WITH_WARNING:
            return Sent(f"stored with warning 0x{status:04X}", warning=meaning.text)
        case Consequence.CLAIMED:
            return _Claimed(status)
        case Consequence.GIVE_UP:
            return NotSent(f"it responded with status {explained(status)}", final=True)
    return NotSent(_status_text(status))


def _class_not_accepted(outgoing: Outgoing) -> NotSent:
    uid, syntax = UID(outgoing.sop_class_uid), UID(outgoing.transfer_syntax_uid)
    also = "" if len(store_contexts(str(uid), str(syntax))) == 1 else " nor the other uncompressed Little Endian one"
    return NotSent(
        f"it accepted no presentation context for objects of the class {uid.name} ({uid}), neither in {syntax.name}"
        f"{also}; have it accept this class from the node, objects of other classes are sent meanwhile"
    )


def _name(outgoing: Outgoing) -> InstanceName:
    head = dcmread(
        outgoing.entry.path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"]
    )
    return InstanceName(
        str(head.get("StudyInstanceUID", "")), str(head.get("SeriesInstanceUID", "")), outgoing.entry.sop_instance_uid
    )


def _status_text(status: int) -> str:
    return f"it responded with status 0x{status:04X}"
