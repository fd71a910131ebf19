"""Store an instance that came by C-STORE, and choose the status of the response.

A data set that does not parse is refused, so that its sender knows, and a copy of it is quarantined, so that somebody
can see why. Nothing of a data set is decoded but the UIDs that name its file and what marks it as urgent, unless other
bytes are there under its UID. Nothing but UIDs and tags is logged.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from plugin.archive.data_set_head import NotADataSet, read_head
from plugin.archive.incoming_file import NoRoom
from plugin.archive.quarantine import Quarantine
from plugin.archive.store import Archive, Stored, WrongUid, is_uid
from plugin.database.audit_log import Peer
from plugin.listener.received_data_set import ReceivedDataSet
from plugin.listener.repeated_instance import OnRepeat, Repeat, RepeatedInstances
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

# C-STORE statuses, PS3.4 table B.2-1: A7xx out of resources, Cxxx cannot understand. The last digits are ours.
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110  # PS3.7 C.5.12
OUT_OF_RESOURCES = 0xA700
NOT_A_DATA_SET = 0xC001
UNUSABLE_UID = 0xC002
OTHER_UID_IN_COMMAND = 0xC003
OTHER_IMAGE_UNDER_THIS_UID = 0xC004
OTHER_PATIENT_OF_THIS_UID = 0xC005

REASONS = {
    PROCESSING_FAILURE: "fault of the node",
    OUT_OF_RESOURCES: "no room",
    NOT_A_DATA_SET: "no data set",
    UNUSABLE_UID: "unusable UID",
    OTHER_UID_IN_COMMAND: "other UID in the command",
    OTHER_IMAGE_UNDER_THIS_UID: "other image under this UID",
    OTHER_PATIENT_OF_THIS_UID: "other patient of this UID",
}
"""The failure statuses, as the node's metrics name them."""

_REFUSED = {
    Repeat.REFUSED_IMAGE: OTHER_IMAGE_UNDER_THIS_UID,
    Repeat.REFUSED_PATIENT: OTHER_PATIENT_OF_THIS_UID,
}
_TAKEN = frozenset({Repeat.NEW_PATIENT, Repeat.MENDED})

OnStored = Callable[[str, Peer], None]
"""Called with the Study Instance UID and the sender of an instance that is new, or took another's place."""

OnRefused = Callable[[Peer, str], object]
"""Called with a peer that was refused, and the reason."""
OnResponse = Callable[[int, int], None]
"""Called with the status of each C-STORE response, and how many bytes of its data set had come."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request, from its command and its association."""

    sop_class_uid: str
    """As it came; it may be no UID."""
    sop_instance_uid: str
    """As it came; it may be no UID."""
    transfer_syntax_uid: str
    sender: Peer


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """What a C-STORE response says."""

    status: int
    comment: str = ""
    """Error Comment (0000,0902)."""


@dataclass(frozen=True, slots=True)
class StoreEvents:
    """What is called as instances come."""

    on_stored: OnStored
    on_response: OnResponse = lambda _status, _size: None
    on_repeat: OnRepeat = lambda _study, _sender, _outcome: None
    on_refused: OnRefused = lambda _peer, _reason: None


@dataclass(frozen=True, slots=True)
class StoreHandler:
    """Stores instances in the archive."""

    archive: Archive
    quarantine: Quarantine
    urgent_ae_titles: frozenset[str]
    repeated: RepeatedInstances
    events: StoreEvents
    room: Outage = field(default_factory=lambda: Outage(_LOG, "instances"))

    def handle(self, request: StoreRequest, data_set: ReceivedDataSet) -> StoreResponse:
        """Store the instance or refuse it. The caller closes `data_set`."""
        try:
            response = self._store(request, data_set)
        except NotADataSet as exc:
            name = self.quarantine.keep(data_set.file) if data_set.file is not None else None
            if name is not None:
                _LOG.warning("a data set that does not parse was quarantined as %s", name)
            response = _refuse(NOT_A_DATA_SET, request.sop_instance_uid, str(exc))
        self.events.on_response(response.status, data_set.size_bytes)
        return response

    def _store(self, request: StoreRequest, data_set: ReceivedDataSet) -> StoreResponse:  # noqa: PLR0911 - each refusal
        """Store the instance or refuse it. Raises NotADataSet."""
        uid = request.sop_instance_uid
        if data_set.no_room is not None:
            return self._refuse_for_room(data_set.no_room)
        if not is_uid(request.sop_class_uid):
            return _refuse(UNUSABLE_UID, uid, "invalid SOP Class UID in the command")
        try:
            head = read_head(data_set.encoded(), request.transfer_syntax_uid)
        except WrongUid as exc:
            return _refuse(UNUSABLE_UID, uid, str(exc))
        key = head.key
        if key.sop_instance_uid != uid:
            return _refuse(OTHER_UID_IN_COMMAND, uid, "command and data set name different instances")
        assert data_set.file is not None  # a data set with UIDs in it has bytes
        outcome = None
        try:
            stored = self.archive.store(key, data_set.file)
            if stored is Stored.DIFFERENT:
                outcome = self.repeated.take(key, data_set.file)
        except NoRoom as exc:
            return self._refuse_for_room(exc)
        if outcome is not None:
            self.events.on_repeat(key.study_instance_uid, request.sender, outcome)
            if outcome.repeat in _REFUSED:
                return _refuse(_REFUSED[outcome.repeat], uid, outcome.why)
        if head.urgent or request.sender.ae_title in self.urgent_ae_titles:
            self.archive.mark_urgent(key.study_instance_uid)
        if stored is Stored.NEW or (outcome is not None and outcome.repeat in _TAKEN):
            self.events.on_stored(key.study_instance_uid, request.sender)
        self.room.works()
        return StoreResponse(SUCCESS)

    def _refuse_for_room(self, why: object) -> StoreResponse:
        self.room.failed(f"refused with status 0x{OUT_OF_RESOURCES:04X}: no room: {why}", kind="no room")
        return StoreResponse(OUT_OF_RESOURCES, f"no room: {why}")


def _refuse(status: int, uid: str, reason: str) -> StoreResponse:
    _LOG.warning("refused instance %s with status 0x%04X: %s", uid if is_uid(uid) else "(invalid UID)", status, reason)
    return StoreResponse(status, reason)
