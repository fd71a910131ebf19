"""Encode and decode the messages of Storage Commitment (PS3.4 J.3): requests and reports.

Decoding trusts nothing: it checks every value, and its errors quote none.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from plugin.archive.store import is_uid

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known SOP instance of all requests and reports."""
TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""What is proposed and accepted; not deflated, as a few bytes of that can inflate to gigabytes."""

REQUEST = 1
"""The only action type (J.3.2.1.1)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""The event types (J.3.3.1.1)."""

_TRANSACTION_UID = 0x00081195
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = 0x00081199, 0x00081198
_REFERENCED_SOP_CLASS_UID, _REFERENCED_SOP_INSTANCE_UID = 0x00081150, 0x00081155
_FAILURE_REASON = 0x00081197


class FailureReason(IntEnum):
    """The reasons that the node gives for not committing to an instance (PS3.3 C.14.1.1); peers use others, too."""

    NO_SUCH_OBJECT = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


class InvalidCommitmentMessage(ValueError):
    """A data set is no valid request or report; the text says why and quotes no value."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance, as a message names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """A request to commit to the storage of instances."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class FailedReference:
    """An instance that is not committed to."""

    reference: Reference
    reason: int
    """Failure Reason (0008,1197); 0 where the peer gave none."""


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """The result of a request."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[FailedReference, ...] = ()


def encode_request(request: CommitmentRequest) -> Dataset:
    """Return the Action Information of an N-ACTION (PS3.4 table J.3-1)."""
    information = Dataset()
    information.TransactionUID = request.transaction_uid
    information.ReferencedSOPSequence = [_item(each) for each in request.references]
    return information


def encode_report(report: CommitmentReport) -> tuple[int, Dataset]:
    """Return the event type ID and Event Information of an N-EVENT-REPORT (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    if report.committed:
        information.ReferencedSOPSequence = [_item(each) for each in report.committed]
    if not report.failed:
        return ALL_COMMITTED, information
    information.FailedSOPSequence = [_item(each.reference) for each in report.failed]
    for item, each in zip(information.FailedSOPSequence, report.failed, strict=True):
        item.FailureReason = int(each.reason)
    return SOME_FAILED, information


def decode_request(encoded: BinaryIO, transfer_syntax_uid: str) -> CommitmentRequest:
    """Decode Action Information. Raises InvalidCommitmentMessage."""
    information = _read(encoded, transfer_syntax_uid)
    references = tuple(_reference(item) for item in _items(information, _REFERENCED_SOP_SEQUENCE))
    if not references:
        raise InvalidCommitmentMessage("the request names no instance")
    return CommitmentRequest(_uid(information, _TRANSACTION_UID), references)


def decode_report(encoded: BinaryIO, transfer_syntax_uid: str) -> CommitmentReport:
    """Decode Event Information, of either event type. Raises InvalidCommitmentMessage."""
    information = _read(encoded, transfer_syntax_uid)
    return CommitmentReport(
        _uid(information, _TRANSACTION_UID),
        tuple(_reference(item) for item in _items(information, _REFERENCED_SOP_SEQUENCE)),
        tuple(FailedReference(_reference(item), _reason(item)) for item in _items(information, _FAILED_SOP_SEQUENCE)),
    )


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _read(encoded: BinaryIO, transfer_syntax_uid: str) -> Dataset:
    encoded.seek(0)  # pynetdicom leaves it at its end
    try:
        return read_dataset(encoded, transfer_syntax_uid == ImplicitVRLittleEndian, is_little_endian=True)
    except Exception as exc:
        raise InvalidCommitmentMessage("the data set does not parse") from exc


def _items(dataset: Dataset, tag: int) -> Sequence:
    try:
        value = dataset[tag].value if tag in dataset else Sequence()
    except Exception as exc:
        raise InvalidCommitmentMessage("a sequence does not parse") from exc
    if not isinstance(value, Sequence):
        raise InvalidCommitmentMessage("an element that has to be a sequence is none")
    return value


def _reference(item: Dataset) -> Reference:
    return Reference(_uid(item, _REFERENCED_SOP_CLASS_UID), _uid(item, _REFERENCED_SOP_INSTANCE_UID))


def _uid(dataset: Dataset, tag: int) -> str:
    value = _raw(dataset, tag)
    text = value.decode("ascii", errors="replace").rstrip("\0 ") if isinstance(value, bytes) else str(value or "")
    if not is_uid(text):
        raise InvalidCommitmentMessage("a UID is missing or invalid")
    return text


def _reason(item: Dataset) -> int:
    value = _raw(item, _FAILURE_REASON)
    if isinstance(value, bytes) and len(value) == 2:
        return int(struct.unpack("<H", value)[0])
    return value if isinstance(value, int) else 0


def _raw(dataset: Dataset, tag: int) -> Any:
    """Return a value before pydicom converts it: pydicom warns of invalid values and quotes them."""
    return dataset.get_item(tag).value if tag in dataset else None
