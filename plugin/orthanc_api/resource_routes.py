"""Orthanc's REST API of patients, studies, series and instances: lists, single ones, metadata, statistics.

The answers are shaped as Orthanc 1.10.1 shapes them; a test asks both the same.
"""

from plugin.orthanc_api.embedded_host import EmbeddedHost, Event
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_PLURAL, BY_SINGULAR, TOP_DOWN, Level
from plugin.orthanc_api.resource_json import (
    USER_METADATA,
    describe,
    metadata_name,
    metadata_number,
    metadata_of,
    statistics_of,
    statistics_of_all,
)
from plugin.orthanc_api.router import ANY, ONE, Asked, route
from plugin.orthanc_api.tags import Json

VERSION = "1.10.1"
"""The Orthanc whose API this is."""
_API_VERSION = 16


def _system(asked: Asked) -> Json:
    host = asked.host
    return {
        "ApiVersion": _API_VERSION,
        "CheckRevisions": False,
        "DatabaseBackendPlugin": None,
        "DatabaseVersion": 6,
        "DicomAet": host.settings.listener.ae_title,
        "DicomPort": host.ports.get("dicom", host.settings.listener.port),
        "HttpPort": host.ports.get("http", host.settings.http.port),
        "IsHttpServerSecure": True,
        "Name": host.configuration.get("Name", ""),
        "PluginsEnabled": True,
        "StorageAreaPlugin": None,
        "Version": VERSION,
    }


def _list(asked: Asked) -> Json:
    if ("limit" in asked.arguments) != ("since" in asked.arguments):
        raise failure(ErrorCode.BAD_REQUEST)
    since, limit = asked.number("since", 0), asked.number("limit", 0)
    with asked.host.index.lock:
        found = asked.host.index.all(BY_PLURAL[asked.groups[0]])[since : since + limit if limit else None]
        return [describe(each, asked.form) if "expand" in asked.arguments else each.identifier for each in found]


def _get(asked: Asked) -> Json:
    with asked.host.index.lock:
        return describe(asked.resource, asked.form)


def _delete(asked: Asked) -> Json:
    asked.host.delete(asked.resource)
    return {}


def _related(asked: Asked) -> Json:
    resource, wanted = asked.resource, asked.groups[2]
    level = BY_PLURAL.get(wanted) or BY_SINGULAR[wanted.capitalize()]
    is_above = wanted in ("patient", "study") or (wanted == "series" and resource.level is Level.INSTANCE)
    if is_above != (level.number < resource.level.number) or level is resource.level:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    with asked.host.index.lock:
        if is_above:
            return next(describe(each, asked.form) for each in resource.above() if each.level is level)
        return [describe(each, asked.form) for each in resource.below(level)]


def _statistics(asked: Asked) -> Json:
    with asked.host.index.lock:
        return statistics_of(asked.resource)


def _all_statistics(asked: Asked) -> Json:
    with asked.host.index.lock:
        counts = {level: len(asked.host.index.all(level)) for level in TOP_DOWN}
        return statistics_of_all(counts, sum(x.at_hand.size_bytes for x in asked.host.index.all(Level.INSTANCE)))


def _metadata(host: EmbeddedHost, resource: Resource) -> dict[int, str]:
    own = host.store.metadata(resource.identifier)
    return metadata_of(resource, own, host.settings.listener.ae_title)


def _list_metadata(asked: Asked) -> Json:
    metadata, names = _metadata(asked.host, asked.resource), asked.host.user_metadata
    found = {metadata_name(number, names): value for number, value in metadata.items()}
    return found if "expand" in asked.arguments else list(found)


def _metadata_number(asked: Asked) -> int:
    number = metadata_number(asked.groups[2], asked.host.user_metadata)
    if number is None:
        raise failure(ErrorCode.INEXISTENT_ITEM)
    return number


def _get_metadata(asked: Asked) -> bytes:
    value = _metadata(asked.host, asked.resource).get(_metadata_number(asked))
    if value is None:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return value.encode()


def _put_metadata(asked: Asked) -> bytes:
    resource, number = asked.resource, _metadata_number(asked)
    if number < USER_METADATA:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    asked.host.store.put_metadata(resource.identifier, number, asked.body.decode("utf-8", "replace"))
    asked.host.tell(Event(ChangeType.UPDATED_METADATA, resource.level.number, resource.identifier))
    return b""


def _delete_metadata(asked: Asked) -> bytes:
    resource, number = asked.resource, _metadata_number(asked)
    if number < USER_METADATA or not asked.host.store.delete_metadata(resource.identifier, number):
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    asked.host.tell(Event(ChangeType.UPDATED_METADATA, resource.level.number, resource.identifier))
    return b""


RESOURCE_ROUTES = (
    route("GET", "system", _system),
    route("GET", ANY, _list),
    route("GET", ONE, _get),
    route("DELETE", ONE, _delete),
    route("GET", f"{ONE}/(studies|series|instances|patient|study)", _related),
    route("GET", f"{ONE}/statistics", _statistics),
    route("GET", "statistics", _all_statistics),
    route("GET", f"{ONE}/metadata", _list_metadata),
    route("GET", f"{ONE}/metadata/([^/]+)", _get_metadata),
    route("PUT", f"{ONE}/metadata/([^/]+)", _put_metadata),
    route("DELETE", f"{ONE}/metadata/([^/]+)", _delete_metadata),
)
