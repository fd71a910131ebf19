"""Orthanc's REST API of patients, studies, series and instances: lists, single resources, metadata, statistics.

Responses have the form of Orthanc 1.10.1; a test compares both.
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
from plugin.orthanc_api.router import ANY, ONE, RestRequest, route
from plugin.orthanc_api.tags import Json

VERSION = "1.10.1"
"""The version of Orthanc whose API this is."""
_API_VERSION = 16


def _system(request: RestRequest) -> Json:
    host = request.host
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


def _list(request: RestRequest) -> Json:
    if ("limit" in request.arguments) != ("since" in request.arguments):
        raise failure(ErrorCode.BAD_REQUEST)
    since, limit = request.number("since", 0), request.number("limit", 0)
    with request.host.index.lock:
        found = request.host.index.all(BY_PLURAL[request.groups[0]])[since : since + limit if limit else None]
        return [
            describe(each, request.json_format) if "expand" in request.arguments else each.identifier for each in found
        ]


def _get(request: RestRequest) -> Json:
    with request.host.index.lock:
        return describe(request.resource, request.json_format)


def _delete(request: RestRequest) -> Json:
    request.host.delete(request.resource)
    return {}


def _related(request: RestRequest) -> Json:
    resource, wanted = request.resource, request.groups[2]
    level = BY_PLURAL.get(wanted) or BY_SINGULAR[wanted.capitalize()]
    is_above = wanted in ("patient", "study") or (wanted == "series" and resource.level is Level.INSTANCE)
    if is_above != (level.number < resource.level.number) or level is resource.level:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    with request.host.index.lock:
        if is_above:
            return next(describe(each, request.json_format) for each in resource.above() if each.level is level)
        return [describe(each, request.json_format) for each in resource.below(level)]


def _statistics(request: RestRequest) -> Json:
    with request.host.index.lock:
        return statistics_of(request.resource)


def _all_statistics(request: RestRequest) -> Json:
    with request.host.index.lock:
        counts = {level: len(request.host.index.all(level)) for level in TOP_DOWN}
        return statistics_of_all(counts, sum(x.stored_file.size_bytes for x in request.host.index.all(Level.INSTANCE)))


def _metadata(host: EmbeddedHost, resource: Resource) -> dict[int, str]:
    own = host.store.metadata(resource.identifier)
    return metadata_of(resource, own, host.settings.listener.ae_title)


def _list_metadata(request: RestRequest) -> Json:
    metadata, names = _metadata(request.host, request.resource), request.host.user_metadata
    found = {metadata_name(number, names): value for number, value in metadata.items()}
    return found if "expand" in request.arguments else list(found)


def _metadata_number(request: RestRequest) -> int:
    number = metadata_number(request.groups[2], request.host.user_metadata)
    if number is None:
        raise failure(ErrorCode.INEXISTENT_ITEM)
    return number


def _get_metadata(request: RestRequest) -> bytes:
    value = _metadata(request.host, request.resource).get(_metadata_number(request))
    if value is None:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return value.encode()


def _put_metadata(request: RestRequest) -> bytes:
    resource, number = request.resource, _metadata_number(request)
    if number < USER_METADATA:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    request.host.store.put_metadata(resource.identifier, number, request.body.decode("utf-8", "replace"))
    request.host.emit(Event(ChangeType.UPDATED_METADATA, resource.level.number, resource.identifier))
    return b""


def _delete_metadata(request: RestRequest) -> bytes:
    resource, number = request.resource, _metadata_number(request)
    if number < USER_METADATA or not request.host.store.delete_metadata(resource.identifier, number):
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    request.host.emit(Event(ChangeType.UPDATED_METADATA, resource.level.number, resource.identifier))
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
