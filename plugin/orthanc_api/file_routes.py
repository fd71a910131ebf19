"""Orthanc's REST API of files: store instances, and return them whole, as elements, or element by element."""

from collections.abc import Callable, Iterable
from hashlib import md5
from typing import TypeVar

from pydicom import DataElement, Dataset

from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import TOP_DOWN, Level
from plugin.orthanc_api.router import ONE, RestRequest, route
from plugin.orthanc_api.tags import (
    Json,
    JsonFormat,
    JsonOptions,
    NotDicom,
    element_text,
    parse_tag,
    read_data_set,
    readable_elements,
    tag_text,
    to_json,
)

_PIXEL_DATA = 0x7FE00010
_T = TypeVar("_T")
_INSTANCE = "(instances)/([^/]+)"


def read_file(instance: Resource) -> bytes:
    """Return the file of an instance as it was received. Raises OrthancException where it is gone."""
    return _translate_errors(instance.stored_file.path.read_bytes)


def read_elements(instance: Resource) -> Dataset:
    """Return the data set of an instance with empty pixel data. Raises OrthancException where it is gone."""
    data_set = _translate_errors(lambda: read_data_set(instance.stored_file.path))
    if instance.stored_file.pixel_data_offset is not None:
        data_set.add(DataElement(_PIXEL_DATA, "OW", None))
    return data_set


def _translate_errors(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except FileNotFoundError as exc:  # purged, and the watcher has not noticed yet
        raise failure(ErrorCode.UNKNOWN_RESOURCE) from exc
    except OSError as exc:
        raise failure(ErrorCode.INEXISTENT_FILE) from exc
    except NotDicom as exc:
        raise failure(ErrorCode.BAD_FILE_FORMAT) from exc


def _format(request: RestRequest) -> JsonFormat:
    if "simplify" in request.arguments:
        return JsonFormat.HUMAN
    return JsonFormat.SHORT if "short" in request.arguments else JsonFormat.FULL


def _tags(request: RestRequest) -> Json:
    return to_json(read_elements(request.resource), JsonOptions(_format(request)))


def _simplified_tags(request: RestRequest) -> Json:
    return to_json(read_elements(request.resource), JsonOptions(JsonFormat.HUMAN))


def _header(request: RestRequest) -> Json:
    meta = read_elements(request.resource).file_meta
    meta.pop("FileMetaInformationVersion", None)  # Orthanc omits binary elements
    return to_json(meta, JsonOptions(_format(request)))


def _file(request: RestRequest) -> bytes:
    return read_file(request.resource)


def _size(request: RestRequest) -> bytes:
    return str(request.resource.stored_file.size_bytes).encode()


def _md5(request: RestRequest) -> bytes:
    return md5(read_file(request.resource), usedforsecurity=False).hexdigest().encode()


def _content(request: RestRequest) -> bytes | Json:
    """Return the tags of a data set or item, the indices of a sequence, or the value of an element."""
    found: Dataset = read_elements(request.resource)
    steps = [step for step in (request.groups[2] or "").split("/") if step]
    while steps:
        tag = parse_tag(steps.pop(0))
        if tag is None or tag not in found:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        element = found[tag]
        if element.VR != "SQ":
            if steps:
                raise failure(ErrorCode.UNKNOWN_RESOURCE)
            return _value(request.resource, element)
        if not steps:
            return [str(number) for number in range(len(element.value or ()))]
        try:
            found = element.value[int(steps.pop(0))]
        except (ValueError, IndexError) as exc:
            raise failure(ErrorCode.UNKNOWN_RESOURCE) from exc
    return [tag_text(element.tag).replace(",", "-") for element in readable_elements(found)]


def _value(instance: Resource, element: DataElement) -> bytes:
    """Return the bytes of a value, padded to even length as in the file."""
    if element.tag == _PIXEL_DATA:
        raise failure(ErrorCode.NOT_IMPLEMENTED)
    if isinstance(element.value, bytes):
        return element.value
    encoded = (element_text(element) or "").encode()
    return encoded + (b"\0" if element.VR == "UI" else b" ") * (len(encoded) % 2)  # PS3.5 6.2


def _frames(request: RestRequest) -> Json:
    data_set = read_elements(request.resource)
    return list(range(int(data_set.get("NumberOfFrames", 1) or 1))) if _PIXEL_DATA in data_set else []


def _attachments(request: RestRequest) -> Json:
    _ = request.resource
    return ["dicom"]


def shared_tags(elements: Iterable[dict[str, Json]]) -> dict[str, Json]:
    """Return the elements that all data sets have with the same text as value."""
    several = list(elements)
    first = several[0] if several else {}
    texts = {tag: value for tag, value in first.items() if isinstance(value, str) or _is_text(value)}
    return {tag: value for tag, value in texts.items() if all(each.get(tag) == value for each in several)}


def _is_text(value: Json) -> bool:
    return isinstance(value, dict) and value["Type"] == "String"


def _shared_tags(request: RestRequest) -> Json:
    return shared_tags(_instances_tags(request).values())


def _instances_tags(request: RestRequest) -> dict[str, Json]:
    if request.resource.level is Level.INSTANCE:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    instances = request.resource.below(Level.INSTANCE)
    return {each.identifier: to_json(read_elements(each), JsonOptions(_format(request))) for each in instances}


def _store(request: RestRequest) -> Json:
    instance, is_new = request.host.store_instance(request.body)
    above = {f"Parent{each.level.singular}": each.identifier for each in instance.above() if each.level in TOP_DOWN[:3]}
    return {
        "ID": instance.identifier,
        "Path": f"/instances/{instance.identifier}",
        "Status": "Success" if is_new else "AlreadyStored",
        **above,
    }


FILE_ROUTES = (
    route("POST", "instances", _store),
    route("GET", f"{_INSTANCE}/tags", _tags),
    route("GET", f"{_INSTANCE}/simplified-tags", _simplified_tags),
    route("GET", f"{_INSTANCE}/header", _header),
    route("GET", f"{_INSTANCE}/file", _file),
    route("GET", f"{_INSTANCE}/content(?:/(.*))?", _content),
    route("GET", f"{_INSTANCE}/frames", _frames),
    route("GET", f"{_INSTANCE}/attachments", _attachments),
    route("GET", f"{_INSTANCE}/attachments/dicom/(?:compressed-)?data", _file),
    route("GET", f"{_INSTANCE}/attachments/dicom/(?:compressed-)?size", _size),
    route("GET", f"{_INSTANCE}/attachments/dicom/(?:compressed-)?md5", _md5),
    route("GET", f"{ONE}/shared-tags", _shared_tags),
    route("GET", f"{ONE}/instances-tags", _instances_tags),
)
