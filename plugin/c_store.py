"""What becomes of an instance that came by C-STORE, and the status that says so.

What does not parse is refused, so that its sender knows, and a copy is kept, so that somebody can see why.
A data set is never decoded beyond the three UIDs that name its file and what says that it is urgent, and nothing of it
but UIDs is ever logged.
"""

import logging
from collections.abc import Callable, Collection
from typing import Any

from pydicom import Dataset

from plugin.archive import Archive, Stored, WrongUid, is_uid
from plugin.audit import Peer
from plugin.incoming import NoRoom
from plugin.quarantine import Quarantine
from plugin.received_key import NotADataSet, read_head
from plugin.settings import is_ae_title
from plugin.streaming import ReceivedDataSet

_LOG = logging.getLogger(__name__)

# C-STORE statuses, PS3.4 table B.2-1: A7xx out of resources, Cxxx cannot understand. The last digits are ours.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_A_DATA_SET = 0xC001
UNUSABLE_UID = 0xC002
OTHER_UID_IN_COMMAND = 0xC003
OTHER_BYTES_UNDER_THIS_UID = 0xC004

REASONS = {
    OUT_OF_RESOURCES: "no room",
    NOT_A_DATA_SET: "no data set",
    UNUSABLE_UID: "unusable UID",
    OTHER_UID_IN_COMMAND: "other UID in the command",
    OTHER_BYTES_UNDER_THIS_UID: "other bytes under this UID",
}
"""What the refusing ones mean, for counting."""

OnStored = Callable[[str, Peer], None]
"""Called with a study instance UID and who sent it after an instance of it was kept as new."""


def handle_store(
    event: Any, archive: Archive, quarantine: Quarantine, urgent_ae_titles: Collection[str], on_stored: OnStored
) -> Dataset | int:
    """The handler of pynetdicom's EVT_C_STORE: keep the instance, or say why not."""
    data_set: ReceivedDataSet = event.request.DataSet
    try:
        return _store(event, data_set, archive, urgent_ae_titles, on_stored)
    except NotADataSet as exc:
        name = quarantine.keep(data_set.file) if data_set.file is not None else None
        if name is not None:
            _LOG.warning("kept what does not parse as %s", name)
        return _refuse(NOT_A_DATA_SET, str(event.request.AffectedSOPInstanceUID), str(exc))
    finally:
        data_set.close()


def _store(  # noqa: PLR0911 - one for each refusal
    event: Any, data_set: ReceivedDataSet, archive: Archive, urgent_ae_titles: Collection[str], on_stored: OnStored
) -> Dataset | int:
    """Raises NotADataSet."""
    request = event.request
    uid = str(request.AffectedSOPInstanceUID)
    if data_set.no_room is not None:
        return _refuse(OUT_OF_RESOURCES, uid, f"no room: {data_set.no_room}")
    if not is_uid(str(request.AffectedSOPClassUID)):
        return _refuse(UNUSABLE_UID, uid, "the command's SOP class UID is none")
    try:
        head = read_head(data_set.encoded(), str(event.context.transfer_syntax))
    except WrongUid as exc:
        return _refuse(UNUSABLE_UID, uid, str(exc))
    key, sender = head.key, _sender(event)
    if key.sop_instance_uid != uid:
        return _refuse(OTHER_UID_IN_COMMAND, uid, "command and data set name different instances")
    assert data_set.file is not None  # a data set with UIDs in it has bytes
    try:
        stored = archive.store(key, data_set.file)
    except NoRoom as exc:
        return _refuse(OUT_OF_RESOURCES, uid, f"no room: {exc}")
    if stored is Stored.DIFFERENT:
        return _refuse(OTHER_BYTES_UNDER_THIS_UID, uid, "other bytes are kept under this UID")
    if head.urgent or sender.ae_title in urgent_ae_titles:
        archive.mark_urgent(key.study_instance_uid)
    if stored is Stored.NEW:
        on_stored(key.study_instance_uid, sender)
    return SUCCESS


def _sender(event: Any) -> Peer:
    peer = event.assoc.requestor
    return Peer(peer.ae_title if is_ae_title(peer.ae_title) else "", peer.address)


def _refuse(status: int, uid: str, why: str) -> Dataset:
    _LOG.warning("refused instance %s with status 0x%04X: %s", _printable(uid), status, why)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = why[:64]  # (0000,0902) is LO
    return answer


def _printable(uid: str) -> str:
    return uid if is_uid(uid) else "(no UID)"
