"""Find studies and instances in an Orthanc, by its REST API."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin.archive.store import is_uid
from plugin.archive.study_inputs import MR_IMAGE_CLASSES, StudyInputs
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.orthanc.client import OrthancClient, is_orthanc_id

_BEYOND_OFFSET = 64
"""Bytes after the offset at which the element of the pixels begins: its tag, VR and length (PS3.5 7.1)."""
_NUMBER = re.compile(r"[0-9]{1,18}")


class TwoStudies(NotInArchive):
    """Orthanc has several studies with one UID: it separates them by patient ID, which the standard does not."""

    def __init__(self, study_instance_uid: str, ids: tuple[str, ...]) -> None:
        super().__init__(
            f"Orthanc has {len(ids)} studies {study_instance_uid}, of patients with different IDs. Delete or anonymise "
            "the wrong one."
        )
        self.ids = ids
        """Orthanc's identifiers of these studies."""


@dataclass(frozen=True, slots=True)
class OrthancImage:
    """An instance, as Orthanc describes it."""

    orthanc_id: str
    sop_instance_uid: str
    size: int
    """Size of its file in bytes."""
    head: int
    """Bytes up to its pixels; equal to `size` where the offset of the pixels is not known."""


@dataclass(frozen=True, slots=True)
class OrthancInputs(StudyInputs):
    """The MR images of a study in Orthanc; `paths` are file names for their copies."""

    images: tuple[OrthancImage, ...] = ()
    """In the order of `paths`."""
    others: tuple[str, ...] = ()
    """SOP instance UIDs of the study's other instances."""


def find_study_uid(client: OrthancClient, orthanc_id: str) -> str:
    """Return the study instance UID of a study in Orthanc. Raises NotInArchive, ArchiveUnavailable."""
    try:
        uid = str(client.get_json(f"/studies/{orthanc_id}")["MainDicomTags"]["StudyInstanceUID"])
    except (KeyError, TypeError) as exc:
        raise NotInArchive(f"Orthanc has no study {orthanc_id} with a study instance UID.") from exc
    if not is_uid(uid):
        raise NotInArchive(f"The study instance UID of study {orthanc_id} in Orthanc is malformed.")
    return uid


def find_study_patient_id(client: OrthancClient, orthanc_id: str) -> str | None:
    """Return the patient ID of a study; None where Orthanc does not tell. Raises NotInArchive, ArchiveUnavailable."""
    try:
        return str(client.get_json(f"/studies/{orthanc_id}")["PatientMainDicomTags"]["PatientID"])
    except (KeyError, TypeError):
        return None


def find_orthanc_ids(client: OrthancClient, study_instance_uid: str) -> tuple[str, ...]:
    """Return Orthanc's identifiers of a study: usually one, or none. Raises ArchiveUnavailable."""
    found = client.post_json("/tools/lookup", study_instance_uid.encode())
    studies = [each for each in found if isinstance(each, dict) and each.get("Type") == "Study"]
    return tuple(sorted(str(each["ID"]) for each in studies if is_orthanc_id(str(each.get("ID", "")))))


def find_inputs(client: OrthancClient, study_instance_uid: str) -> OrthancInputs:
    """Return the inputs of a study; empty where Orthanc has no such study. Raises TwoStudies, ArchiveUnavailable."""
    ids = find_orthanc_ids(client, study_instance_uid)
    if len(ids) > 1:
        raise TwoStudies(study_instance_uid, ids)
    if not ids:
        return OrthancInputs((), (), 0)
    question = {"Resources": list(ids), "Level": "Instance", "Metadata": True}
    found: Any = client.post_json("/tools/bulk-content", question)
    try:
        images, others = [], []
        for each in found:
            if each["Metadata"].get("SopClassUid") in MR_IMAGE_CLASSES:
                images.append(_image(each))
            else:
                others.append(str(each["MainDicomTags"]["SOPInstanceUID"]))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ArchiveUnavailable(
            "The server at orthanc.url is no Orthanc, or one before 1.9.4; check orthanc.url."
        ) from exc
    images.sort(key=lambda image: (image.sop_instance_uid, image.orthanc_id))
    return OrthancInputs(
        # Orthanc's own identifiers: two series of a study may have images with the same SOP instance UID.
        tuple(Path(f"{image.orthanc_id}.dcm") for image in images),
        tuple(image.sop_instance_uid for image in images),
        len(found) - len(images),
        tuple(images),
        tuple(others),
    )


def _image(found: dict[str, Any]) -> OrthancImage:
    """Read an entry of /tools/bulk-content. Raises KeyError, ValueError, TypeError."""
    orthanc_id, size = str(found["ID"]), int(found["FileSize"])
    if not is_orthanc_id(orthanc_id) or size < 0:
        raise ValueError(orthanc_id)
    offset = str(found["Metadata"].get("PixelDataOffset", ""))
    head = int(offset) + _BEYOND_OFFSET if _NUMBER.fullmatch(offset) else size
    return OrthancImage(orthanc_id, str(found["MainDicomTags"]["SOPInstanceUID"]), size, min(head, size))
