"""Send a DICOM file by C-STORE: in its own transfer syntax, or converted where the peer does not accept that."""

from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import Association, evt
from pynetdicom.dsutils import split_dataset

from plugin.dimse.association import ProposedContext, accepted_by
from plugin.dimse.implicit_vr import NotConvertible, implicit_vr_dataset
from plugin.errors import PeerFailed

_CONVERTIBLE = {
    str(ExplicitVRLittleEndian): str(ImplicitVRLittleEndian),
    str(ImplicitVRLittleEndian): str(ExplicitVRLittleEndian),
}
_LARGEST_MESSAGE_ID = 65535


class NoContext(Exception):
    """The peer accepted no presentation context in which the file can be sent."""


def store_contexts(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[ProposedContext, ...]:
    """Return the contexts to propose for a file.

    Every application has to accept Implicit VR Little Endian (PS3.5 10.1), and some accept nothing else.
    """
    syntaxes = [transfer_syntax_uid]
    if transfer_syntax_uid in _CONVERTIBLE:
        syntaxes.append(_CONVERTIBLE[transfer_syntax_uid])
    return tuple(ProposedContext(sop_class_uid, syntax) for syntax in syntaxes)


def send_file(association: Association, path: Path, proposed: tuple[ProposedContext, ...], number: int) -> int:
    """Send a file with its `store_contexts`; return the status of the response. `number` counts from 0 on it.

    Raises NoContext, PeerFailed, and OSError, InvalidDicomError where the file cannot be read.
    """
    accepted = accepted_by(association)
    context = next((each for each in proposed if each in accepted), None)
    if context is None:
        raise NoContext
    dataset = _read(path, context.transfer_syntax_uid)
    message_id = number % _LARGEST_MESSAGE_ID + 1
    responses: list[Dataset] = []
    received = (evt.EVT_DIMSE_RECV, lambda event: responses.append(event.message.command_set))
    association.bind(*received)
    try:
        status: int | None = getattr(association.send_c_store(dataset, msg_id=message_id), "Status", None)
    except RuntimeError as exc:
        raise PeerFailed("it ended the association") from exc
    finally:
        association.unbind(*received)
    if status is None:
        raise PeerFailed("it did not respond to a C-STORE")
    _check_response(responses[-1] if responses else Dataset(), message_id, str(dataset.SOPInstanceUID))
    return status


def _read(path: Path, transfer_syntax_uid: str) -> Dataset:
    """Return the data set of a file; sent in this transfer syntax it keeps the bytes of its values."""
    dataset = dcmread(path)
    own = str(dataset.file_meta.TransferSyntaxUID)
    if own == ExplicitVRLittleEndian and transfer_syntax_uid == ImplicitVRLittleEndian:
        _, offset = split_dataset(path)
        try:
            return implicit_vr_dataset(path.read_bytes()[offset:])
        except NotConvertible:  # pynetdicom converts it, by pydicom's reading of each value
            return dataset
    return dataset


def _check_response(response: Dataset, message_id: int, sop_instance_uid: str) -> None:
    """Check that a response is about what was sent (PS3.7 9.3.1.2). Raises PeerFailed."""
    answered: Any = response.get("MessageIDBeingRespondedTo", message_id)
    stored = response.get("AffectedSOPInstanceUID")
    if answered != message_id or (stored and UID(str(stored)) != sop_instance_uid):
        raise PeerFailed("it responded to a C-STORE with the message ID or the UID of another one")
