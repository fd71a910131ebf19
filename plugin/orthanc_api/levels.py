"""The four levels of Orthanc's model, its identifiers, and the elements that it indexes at each level."""

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from plugin.orthanc_api.enums import ResourceType


@dataclass(frozen=True, slots=True)
class _Names:
    number: int
    singular: str
    plural: str


class Level(Enum):
    """The level of a resource, from the top down."""

    PATIENT = _Names(ResourceType.PATIENT, "Patient", "patients")
    STUDY = _Names(ResourceType.STUDY, "Study", "studies")
    SERIES = _Names(ResourceType.SERIES, "Series", "series")
    INSTANCE = _Names(ResourceType.INSTANCE, "Instance", "instances")

    @property
    def number(self) -> int:
        """The level's number in ResourceType."""
        return self.value.number

    @property
    def singular(self) -> str:
        """The name in JSON, such as Study."""
        return self.value.singular

    @property
    def plural(self) -> str:
        """The name in paths, such as studies; in JSON with a capital."""
        return self.value.plural


TOP_DOWN = tuple(Level)
BY_PLURAL = {level.plural: level for level in Level}
BY_SINGULAR = {level.singular: level for level in Level}
BY_NUMBER = {level.number: level for level in Level}

# What Orthanc 1.10 keeps of each level in its index, and shows as MainDicomTags.
MAIN_TAGS: dict[Level, tuple[int, ...]] = {
    Level.PATIENT: (0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101000),
    Level.STUDY: (
        *(0x00080020, 0x00080030, 0x00080050, 0x00080080, 0x00080090, 0x00081030),
        *(0x0020000D, 0x00200010, 0x00321032, 0x00321060),
    ),
    Level.SERIES: (
        *(0x00080021, 0x00080031, 0x00080060, 0x00080070, 0x00081010, 0x0008103E, 0x00081070),
        *(0x00180010, 0x00180015, 0x00180024, 0x00181030, 0x00181090, 0x00181400),
        *(0x0020000E, 0x00200011, 0x00200037, 0x00200105, 0x00201002),
        *(0x00400254, 0x00540081, 0x00540101, 0x00541000),
    ),
    Level.INSTANCE: (
        *(0x00080012, 0x00080013, 0x00080018),
        *(0x00200012, 0x00200013, 0x00200032, 0x00200037, 0x00200100, 0x00204000, 0x00280008, 0x00541330),
    ),
}
IDENTIFYING_TAG = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.INSTANCE: 0x00080018,
}


class OrthancIds(NamedTuple):
    """Orthanc's identifiers of an instance and of its ancestors, in the order of the levels' numbers."""

    patient: str
    study: str
    series: str
    instance: str


def identifiers(patient_id: str, study_uid: str, series_uid: str, sop_instance_uid: str) -> OrthancIds:
    """Return Orthanc's identifiers: SHA-1 of the DICOM identifiers joined by bars (Orthanc Book)."""
    parts = (patient_id, study_uid, series_uid, sop_instance_uid)
    return OrthancIds(*(format_sha1("|".join(parts[: count + 1]).encode()) for count in range(4)))


def format_sha1(content: bytes) -> str:
    """Return the SHA-1 as Orthanc writes it: five groups of eight hexadecimal digits."""
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))
