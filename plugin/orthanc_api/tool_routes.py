"""Orthanc's REST API of /changes, /tools and /modalities."""

from pydicom.uid import generate_uid

from plugin.orthanc_api.embedded_host import Event
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.find import find, lookup
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_SINGULAR, TOP_DOWN, Level
from plugin.orthanc_api.modalities import OPERATIONS
from plugin.orthanc_api.resource_json import changes_as_json
from plugin.orthanc_api.router import RestRequest, route
from plugin.orthanc_api.tags import Json

_MOST_CHANGES = 100
"""In a response, unless the request gives another limit."""


def _changes(request: RestRequest) -> Json:
    if "last" in request.arguments:
        return changes_as_json(request.host.store.last_change())
    return changes_as_json(
        request.host.store.changes(request.number("since", 0), request.number("limit", _MOST_CHANGES))
    )


def _clear_changes(request: RestRequest) -> bytes:
    request.host.store.clear_changes()
    return b""


def _find(request: RestRequest) -> Json:
    return find(request.host, request.json())


def _lookup(request: RestRequest) -> Json:
    return [
        {"ID": each.identifier, "Path": f"/{each.level.plural}/{each.identifier}", "Type": each.level.singular}
        for each in lookup(request.host, request.body.decode("utf-8", "replace").strip())
    ]


def _generate_uid(request: RestRequest) -> bytes:
    level = request.arguments.get("level", "").capitalize()
    if level not in BY_SINGULAR:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return str(generate_uid(prefix=None)).encode()


def _metrics(request: RestRequest) -> bytes:
    return "".join(f"{name} {value:g}\n" for name, value in request.host.metrics.values()).encode()


def _modalities(request: RestRequest) -> Json:
    modalities = request.host.modalities
    names = modalities.names()
    return {name: modalities.get(name).as_json() for name in names} if "expand" in request.arguments else names


def _modality(request: RestRequest) -> Json:
    if request.groups[0] not in request.host.modalities.names():
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return list(OPERATIONS)


def _modality_configuration(request: RestRequest) -> Json:
    return request.host.modalities.get(request.groups[0]).as_json()


def _put_modality(request: RestRequest) -> bytes:
    request.host.modalities.put(request.groups[0], request.json())
    request.host.emit(Event(ChangeType.UPDATED_MODALITIES))
    return b""


def _delete_modality(request: RestRequest) -> bytes:
    request.host.modalities.delete(request.groups[0])
    request.host.emit(Event(ChangeType.UPDATED_MODALITIES))
    return b""


def _echo(request: RestRequest) -> Json:
    request.host.modalities.echo(request.groups[0])
    return {}


def _store(request: RestRequest) -> Json:
    """Send resources: one identifier, a list of them, or an object with Resources. Responds when all are sent."""
    modality = request.host.modalities.get(request.groups[0])
    wanted = _wanted(request)
    files = [
        (file.path, file.sop_class_uid, file.transfer_syntax_uid)
        for resource in wanted
        for file in (instance.stored_file for instance in resource.below(Level.INSTANCE))
    ]
    failed = request.host.modalities.store(request.groups[0], files)
    if failed:
        raise failure(ErrorCode.NETWORK_PROTOCOL)
    return {
        "Description": "REST API",
        "FailedInstancesCount": failed,
        "InstancesCount": len(files),
        "LocalAet": request.host.settings.listener.ae_title,
        "ParentResources": sorted({resource.identifier for resource in wanted}),
        "RemoteAet": modality.ae_title,
    }


def _wanted(request: RestRequest) -> list[Resource]:
    text = request.body.decode("utf-8", "replace").strip()
    named: Json = text
    if not _resources(request, text):
        named = request.json(ErrorCode.BAD_FILE_FORMAT)
    if isinstance(named, dict):
        named = named.get("Resources")
    identifiers = [named] if isinstance(named, str) else named
    if not isinstance(identifiers, list) or not all(isinstance(each, str) for each in identifiers):
        raise failure(ErrorCode.BAD_FILE_FORMAT)
    found = [_resources(request, each) for each in identifiers]
    if not all(found) or not found:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return [one for several in found for one in several]


def _resources(request: RestRequest, identifier: str) -> list[Resource]:
    found = [request.host.index.find(level, identifier) for level in TOP_DOWN]
    return [resource for resource in found if resource is not None]


TOOL_ROUTES = (
    route("GET", "changes", _changes),
    route("DELETE", "changes", _clear_changes),
    route("POST", "tools/find", _find),
    route("POST", "tools/lookup", _lookup),
    route("GET", "tools/generate-uid", _generate_uid),
    route("GET", "tools/metrics-prometheus", _metrics),
    route("GET", "modalities", _modalities),
    route("GET", "modalities/([^/]+)", _modality),
    route("PUT", "modalities/([^/]+)", _put_modality),
    route("DELETE", "modalities/([^/]+)", _delete_modality),
    route("GET", "modalities/([^/]+)/configuration", _modality_configuration),
    route("POST", "modalities/([^/]+)/echo", _echo),
    route("POST", "modalities/([^/]+)/store", _store),
)
