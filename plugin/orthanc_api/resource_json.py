"""Write resources, metadata, statistics and changes as Orthanc's REST API does."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from plugin.orthanc_api.enums import InstanceOrigin
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_NUMBER, Level
from plugin.orthanc_api.store import Change, Changes
from plugin.orthanc_api.tags import Json, JsonFormat, texts_to_json

_CHILDREN = {Level.PATIENT: "Studies", Level.STUDY: "Series", Level.SERIES: "Instances"}
_INSTANCE_NUMBER, _IMAGES_IN_ACQUISITION, _TEMPORAL_POSITIONS = 0x00200013, 0x00201002, 0x00200105
_SLICES, _TIME_SLICES, _CARDIAC_IMAGES = 0x00540081, 0x00540101, 0x00181090
_FILE_NAMES = uuid.UUID("6f0c8a57-9b07-4f6b-8c0f-1f6f7a2b8f0e")
USER_METADATA = 1024
"""The first number of metadata that plugins may use."""
_METADATA = {
    1: "IndexInSeries",
    2: "ReceptionDate",
    3: "RemoteAET",
    4: "ExpectedNumberOfInstances",
    7: "LastUpdate",
    8: "Origin",
    9: "TransferSyntax",
    10: "SopClassUid",
    11: "RemoteIP",
    12: "CalledAET",
    15: "PixelDataOffset",
}
_BY_NAME = {name: number for number, name in _METADATA.items()}
_ORIGINS = {
    InstanceOrigin.DICOM_PROTOCOL: "DicomProtocol",
    InstanceOrigin.REST_API: "RestApi",
    InstanceOrigin.PLUGIN: "Plugins",
}
_CHANGE_NAMES = (
    *("CompletedSeries", "Deleted", "NewChildInstance", "NewInstance", "NewPatient", "NewSeries", "NewStudy"),
    *("StablePatient", "StableSeries", "StableStudy", "OrthancStarted", "OrthancStopped"),
    *("UpdatedAttachment", "UpdatedMetadata", "UpdatedPeers", "UpdatedModalities"),
)
"""Names by ChangeType."""


def describe(resource: Resource, form: JsonFormat = JsonFormat.HUMAN) -> Json:
    """Return what GET /studies/{id} shows, for any level."""
    found: dict[str, Json] = {
        "ID": resource.identifier,
        "Type": resource.level.singular,
        "MainDicomTags": texts_to_json(resource.main_texts, form),
    }
    if resource.parent is not None:
        found[f"Parent{resource.parent.level.singular}"] = resource.parent.identifier
    if resource.level is Level.INSTANCE:
        found |= {
            "FileSize": resource.stored_file.size_bytes,
            "FileUuid": str(uuid.uuid5(_FILE_NAMES, resource.identifier)),
            "IndexInSeries": index_in_series(resource),
        }
        return found
    found |= {
        _CHILDREN[resource.level]: list(resource.children),
        "IsStable": resource.stable,
        "LastUpdate": format_time(resource.last_update),
    }
    if resource.level is Level.STUDY and resource.parent is not None:
        found["PatientMainDicomTags"] = texts_to_json(resource.parent.main_texts, form)
    if resource.level is Level.SERIES:
        expected = expected_instances(resource)
        found |= {"ExpectedNumberOfInstances": expected, "Status": _status(resource, expected)}
    return found


def metadata_of(resource: Resource, own: Mapping[int, str], called_ae_title: str) -> dict[int, str]:
    """Return all metadata of a resource by number; `own` is what a plugin put there."""
    found: dict[int, str] = {}
    if resource.level is Level.INSTANCE:
        file, index = resource.stored_file, index_in_series(resource)
        found = {2: format_time(file.received), 9: file.transfer_syntax_uid, 10: file.sop_class_uid}
        if index is not None:
            found[1] = str(index)
        if file.pixel_data_offset is not None:
            found[15] = str(file.pixel_data_offset)
        found[8] = _ORIGINS.get(resource.reception.origin, "Unknown")
        if resource.reception.origin == InstanceOrigin.DICOM_PROTOCOL:
            found |= {11: resource.reception.sender.address, 12: called_ae_title}
    else:
        found[7] = format_time(resource.last_update)
    if resource.level in (Level.SERIES, Level.INSTANCE):
        found[3] = resource.reception.sender.ae_title
    if resource.level is Level.SERIES and (expected := expected_instances(resource)) is not None:
        found[4] = str(expected)
    return dict(sorted((found | dict(own)).items()))


def metadata_name(number: int, user: Mapping[str, int]) -> str:
    """Return the name of metadata, from Orthanc or from `user`; its number where it has none."""
    return _METADATA.get(number) or {user[name]: name for name in user}.get(number, str(number))


def metadata_number(name: str, user: Mapping[str, int]) -> int | None:
    """Return the number of metadata by name or number; None where the name is unknown."""
    return int(name) if name.isdecimal() else _BY_NAME.get(name, user.get(name))


def check_user_metadata(user: Json) -> None:
    """Check the setting UserMetadata, numbers by name, as Orthanc does. Raises ValueError."""
    if not isinstance(user, dict):
        raise ValueError("UserMetadata is not a JSON object")
    for name, number in user.items():
        if type(number) is not int or not USER_METADATA <= number < 65536:
            raise ValueError(f"UserMetadata.{name} is not a number from {USER_METADATA} to 65535")
        if name in _BY_NAME or list(user.values()).count(number) > 1:
            raise ValueError(f"UserMetadata.{name} uses the name or number of other metadata")


def statistics_of(resource: Resource) -> Json:
    """Return what GET /studies/{id}/statistics shows."""
    sizes = [instance.stored_file.size_bytes for instance in resource.below(Level.INSTANCE)]
    found: dict[str, Json] = {}
    for prefix in ("", "Dicom"):
        found |= _size(f"{prefix}DiskSize", sum(sizes)) | _size(f"{prefix}UncompressedSize", sum(sizes))
    for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
        if level.number > resource.level.number:
            found[f"Count{level.plural.capitalize()}"] = sum(1 for _ in resource.below(level))
    return found


def statistics_of_all(counts: Mapping[Level, int], bytes_in_all: int) -> Json:
    """Return what GET /statistics shows."""
    sizes = _size("TotalDiskSize", bytes_in_all) | _size("TotalUncompressedSize", bytes_in_all)
    return {f"Count{level.plural.capitalize()}": count for level, count in counts.items()} | sizes


def changes_as_json(changes: Changes) -> Json:
    """Return what GET /changes shows."""
    return {
        "Changes": [_change_as_json(change) for change in changes.entries],
        "Done": changes.done,
        "Last": changes.last,
    }


def index_in_series(instance: Resource) -> int | None:
    """Return the instance number; None where it is not a number."""
    try:
        return int(instance.text(_INSTANCE_NUMBER))
    except ValueError:
        return None


def expected_instances(series: Resource) -> int | None:
    """Return how many instances the headers announce; None where they do not."""
    for tags in ((_IMAGES_IN_ACQUISITION, _TEMPORAL_POSITIONS), (_SLICES, _TIME_SLICES), (_CARDIAC_IMAGES,)):
        product = 1
        try:
            for tag in tags:
                product *= int(series.text(tag))
        except ValueError:
            continue
        return product
    return None


def format_time(seconds: float) -> str:
    """Return a time as Orthanc writes it, in UTC: 20260131T235959."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")


def is_complete(series: Resource) -> bool:
    """Return whether all instances are there that the headers announce."""
    return _status(series, expected_instances(series)) == "Complete"


def _status(series: Resource, expected: int | None) -> str:
    if expected is None:
        return "Unknown"
    indices = [index_in_series(instance) for instance in series.children.values()]
    if any(index is None for index in indices):
        return "Unknown"
    if len(set(indices)) < len(indices) or any(index is not None and not 0 < index <= expected for index in indices):
        return "Inconsistent"
    return "Complete" if len(indices) == expected else "Missing"


def _size(name: str, size_bytes: int) -> dict[str, Json]:
    return {name: str(size_bytes), f"{name}MB": size_bytes >> 20}


def _change_as_json(change: Change) -> Json:
    level = BY_NUMBER[change.level]
    return {
        "ChangeType": _CHANGE_NAMES[change.change_type],
        "Date": format_time(change.at.timestamp()),
        "ID": change.resource,
        "Path": f"/{level.plural}/{change.resource}",
        "ResourceType": level.singular,
        "Seq": change.seq,
    }
