"""Orthanc's REST API of what is no resource: /changes, /tools, /modalities."""

from pydicom.uid import generate_uid

from plugin.orthanc_api.embedded_host import Event
from plugin.orthanc_api.enums import ChangeType
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.find import find, lookup
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_SINGULAR, TOP_DOWN, Level
from plugin.orthanc_api.modalities import OPERATIONS
from plugin.orthanc_api.resource_json import changes_as_json
from plugin.orthanc_api.router import Asked, route
from plugin.orthanc_api.tags import Json

_MOST_CHANGES = 100
"""In an answer, unless another limit is asked for."""


def _changes(asked: Asked) -> Json:
    if "last" in asked.arguments:
        return changes_as_json(asked.host.store.last_change())
    return changes_as_json(asked.host.store.changes(asked.number("since", 0), asked.number("limit", _MOST_CHANGES)))


def _clear_changes(asked: Asked) -> bytes:
    asked.host.store.clear_changes()
    return b""


def _find(asked: Asked) -> Json:
    return find(asked.host, asked.json())


def _lookup(asked: Asked) -> Json:
    return [
        {"ID": each.identifier, "Path": f"/{each.level.plural}/{each.identifier}", "Type": each.level.singular}
        for each in lookup(asked.host, asked.body.decode("utf-8", "replace").strip())
    ]


def _generate_uid(asked: Asked) -> bytes:
    level = asked.arguments.get("level", "").capitalize()
    if level not in BY_SINGULAR:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return str(generate_uid(prefix=None)).encode()


def _metrics(asked: Asked) -> bytes:
    return "".join(f"{name} {value:g}\n" for name, value in asked.host.metrics.values()).encode()


def _modalities(asked: Asked) -> Json:
    modalities = asked.host.modalities
    names = modalities.names()
    return {name: modalities.get(name).as_json() for name in names} if "expand" in asked.arguments else names


def _modality(asked: Asked) -> Json:
    if asked.groups[0] not in asked.host.modalities.names():
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return list(OPERATIONS)


def _modality_configuration(asked: Asked) -> Json:
    return asked.host.modalities.get(asked.groups[0]).as_json()


def _put_modality(asked: Asked) -> bytes:
    asked.host.modalities.put(asked.groups[0], asked.json())
    asked.host.tell(Event(ChangeType.UPDATED_MODALITIES))
    return b""


def _delete_modality(asked: Asked) -> bytes:
    asked.host.modalities.delete(asked.groups[0])
    asked.host.tell(Event(ChangeType.UPDATED_MODALITIES))
    return b""


def _echo(asked: Asked) -> Json:
    asked.host.modalities.echo(asked.groups[0])
    return {}


def _store(asked: Asked) -> Json:
    """Send resources of any level: an identifier, a list of them, or an object with Resources. Answers when done."""
    modality = asked.host.modalities.get(asked.groups[0])
    wanted = _wanted(asked)
    files = [
        (file.path, file.sop_class_uid, file.transfer_syntax_uid)
        for resource in wanted
        for file in (instance.at_hand for instance in resource.below(Level.INSTANCE))
    ]
    failed = asked.host.modalities.store(asked.groups[0], files)
    if failed:
        raise failure(ErrorCode.NETWORK_PROTOCOL)
    return {
        "Description": "REST API",
        "FailedInstancesCount": failed,
        "InstancesCount": len(files),
        "LocalAet": asked.host.settings.listener.ae_title,
        "ParentResources": sorted({resource.identifier for resource in wanted}),
        "RemoteAet": modality.ae_title,
    }


def _wanted(asked: Asked) -> list[Resource]:
    text = asked.body.decode("utf-8", "replace").strip()
    named: Json = text
    if not _resources(asked, text):
        named = asked.json(ErrorCode.BAD_FILE_FORMAT)
    if isinstance(named, dict):
        named = named.get("Resources")
    identifiers = [named] if isinstance(named, str) else named
    if not isinstance(identifiers, list) or not all(isinstance(each, str) for each in identifiers):
        raise failure(ErrorCode.BAD_FILE_FORMAT)
    found = [_resources(asked, each) for each in identifiers]
    if not all(found) or not found:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    return [one for several in found for one in several]


def _resources(asked: Asked, identifier: str) -> list[Resource]:
    found = [asked.host.index.find(level, identifier) for level in TOP_DOWN]
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
