"""Studies and instances of an Orthanc, found by its REST API."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin.archive.store import is_uid
from plugin.archive.study_inputs import MR_IMAGE_CLASSES, StudyInputs
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.orthanc.client import OrthancClient, is_orthanc_id

_BEYOND_OFFSET = 64
"""Bytes after the place where the pixels' element begins: its tag, and what says how long it is (PS3.5 7.1)."""


_NUMBER = re.compile(r"[0-9]{1,18}")


class TwoStudies(NotInArchive):
    """Orthanc has two studies of one UID: it tells patients apart by their ID, and the standard does not."""

    def __init__(self, study_instance_uid: str, ids: tuple[str, ...]) -> None:
        super().__init__(
            f"Orthanc has {len(ids)} studies {study_instance_uid}, of patients with different IDs. Delete or anonymise "
            "the wrong one."
        )
        self.ids = ids
        """Orthanc's identifiers of them."""


@dataclass(frozen=True, slots=True)
class OrthancImage:
    """An instance as Orthanc describes it."""

    orthanc_id: str
    sop_instance_uid: str
    size: int
    """Bytes of its file."""
    head: int
    """Bytes up to its pixels; as many as `size` where that is not known."""


@dataclass(frozen=True, slots=True)
class OrthancInputs(StudyInputs):
    """The MR images of a study in Orthanc; `paths` are names for their copies."""

    images: tuple[OrthancImage, ...] = ()
    """In the order of `paths`."""
    others: tuple[str, ...] = ()
    """SOP instance UIDs of what else the study has."""


def study_uid_of(client: OrthancClient, orthanc_id: str) -> str:
    """The study instance UID of a study of Orthanc's. Raises NotInArchive, ArchiveUnavailable."""
    try:
        uid = str(client.get_json(f"/studies/{orthanc_id}")["MainDicomTags"]["StudyInstanceUID"])
    except (KeyError, TypeError) as exc:
        raise NotInArchive(f"Orthanc has no study {orthanc_id} with a study instance UID.") from exc
    if not is_uid(uid):
        raise NotInArchive(f"The study instance UID of study {orthanc_id} in Orthanc is none.")
    return uid


def orthanc_ids_of(client: OrthancClient, study_instance_uid: str) -> tuple[str, ...]:
    """Orthanc's own identifiers of a study: one, none where it is not there. Raises ArchiveUnavailable."""
    found = client.post_json("/tools/lookup", study_instance_uid.encode())
    studies = [each for each in found if isinstance(each, dict) and each.get("Type") == "Study"]
    return tuple(sorted(str(each["ID"]) for each in studies if is_orthanc_id(str(each.get("ID", "")))))


def inputs_of(client: OrthancClient, study_instance_uid: str) -> OrthancInputs:
    """What Orthanc has of a study; nothing where it has no such study. Raises TwoStudies, ArchiveUnavailable."""
    ids = orthanc_ids_of(client, study_instance_uid)
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
        raise ArchiveUnavailable("What answers as Orthanc is none, or older than 1.9.4.") from exc
    images.sort(key=lambda image: (image.sop_instance_uid, image.orthanc_id))
    return OrthancInputs(
        # Orthanc's own name: nothing keeps two series of a study from having images of one SOP instance UID.
        tuple(Path(f"{image.orthanc_id}.dcm") for image in images),
        tuple(image.sop_instance_uid for image in images),
        len(found) - len(images),
        tuple(images),
        tuple(others),
    )


def _image(found: dict[str, Any]) -> OrthancImage:
    """Raises KeyError, ValueError, TypeError."""
    orthanc_id, size = str(found["ID"]), int(found["FileSize"])
    if not is_orthanc_id(orthanc_id) or size < 0:
        raise ValueError(orthanc_id)
    offset = str(found["Metadata"].get("PixelDataOffset", ""))
    head = int(offset) + _BEYOND_OFFSET if _NUMBER.fullmatch(offset) else size
    return OrthancImage(orthanc_id, str(found["MainDicomTags"]["SOPInstanceUID"]), size, min(head, size))
