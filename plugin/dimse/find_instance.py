"""Ask a DICOM peer by C-FIND whether it has an instance (Study Root, IMAGE level; PS3.4 C.6.2)."""

from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import Association

from plugin.dimse.association import PeerAddress, Proposal, ProposedContext, open_association
from plugin.errors import PeerFailed

_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_PROPOSAL = Proposal(
    tuple(ProposedContext(_STUDY_ROOT_FIND, str(each)) for each in (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
)
_SUCCESS, _PENDING = 0x0000, (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True)
class InstanceName:
    """The UIDs that name an instance from its study down."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def find_instances(
    address: PeerAddress, calling_ae_title: str, names: tuple[InstanceName, ...], timeout_s: float
) -> frozenset[InstanceName]:
    """Return which of these instances a peer lists. Raises PeerFailed where it cannot be asked."""
    with open_association(address, calling_ae_title, _PROPOSAL, timeout_s) as association:
        return frozenset(name for name in names if _has(association, name))


def _has(association: Association, name: InstanceName) -> bool:
    question = Dataset()
    question.QueryRetrieveLevel = "IMAGE"
    question.StudyInstanceUID = name.study_instance_uid
    question.SeriesInstanceUID = name.series_instance_uid
    question.SOPInstanceUID = name.sop_instance_uid
    found, status = False, None
    try:
        for response, item in association.send_c_find(question, _STUDY_ROOT_FIND):
            status = getattr(response, "Status", None)
            if status in _PENDING and item is not None and str(item.get("SOPInstanceUID", "")) == name.sop_instance_uid:
                found = True
    except (RuntimeError, ValueError) as exc:
        raise PeerFailed("it ended the association") from exc
    if status != _SUCCESS:
        raise PeerFailed("it did not respond to a C-FIND" if status is None else f"C-FIND status 0x{status:04X}")
    return found
