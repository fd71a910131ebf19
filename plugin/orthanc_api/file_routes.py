"""Orthanc's REST API of files: instances are stored, and given back whole, as elements, or one element of them."""

from collections.abc import Callable, Iterable
from hashlib import md5
from typing import TypeVar

from pydicom import DataElement, Dataset

from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import TOP_DOWN, Level
from plugin.orthanc_api.router import ONE, Asked, route
from plugin.orthanc_api.tags import (
    Form,
    Json,
    NotDicom,
    Shown,
    parse_tag,
    read_data_set,
    readable,
    tag_text,
    text_of,
    to_json,
)

_PIXEL_DATA = 0x7FE00010
_T = TypeVar("_T")
_INSTANCE = "(instances)/([^/]+)"


def read_file(instance: Resource) -> bytes:
    """As it was received. Raises OrthancException where it is gone."""
    return _or_gone(instance.at_hand.path.read_bytes)


def read_elements(instance: Resource) -> Dataset:
    """Its data set, with an empty element in the place of the pixels. Raises OrthancException where it is gone."""
    data_set = _or_gone(lambda: read_data_set(instance.at_hand.path))
    if instance.at_hand.pixel_data_offset is not None:
        data_set.add(DataElement(_PIXEL_DATA, "OW", None))
    return data_set


def _or_gone(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except FileNotFoundError as exc:  # purged meanwhile; the index has not seen it yet
        raise failure(ErrorCode.UNKNOWN_RESOURCE) from exc
    except OSError as exc:
        raise failure(ErrorCode.INEXISTENT_FILE) from exc
    except NotDicom as exc:
        raise failure(ErrorCode.BAD_FILE_FORMAT) from exc


def _form(asked: Asked) -> Form:
    if "simplify" in asked.arguments:
        return Form.HUMAN
    return Form.SHORT if "short" in asked.arguments else Form.FULL


def _tags(asked: Asked) -> Json:
    return to_json(read_elements(asked.resource), Shown(_form(asked)))


def _simplified_tags(asked: Asked) -> Json:
    return to_json(read_elements(asked.resource), Shown(Form.HUMAN))


def _header(asked: Asked) -> Json:
    meta = read_elements(asked.resource).file_meta
    meta.pop("FileMetaInformationVersion", None)  # Orthanc shows nothing binary of it
    return to_json(meta, Shown(_form(asked)))


def _file(asked: Asked) -> bytes:
    return read_file(asked.resource)


def _size(asked: Asked) -> bytes:
    return str(asked.resource.at_hand.size_bytes).encode()


def _md5(asked: Asked) -> bytes:
    return md5(read_file(asked.resource), usedforsecurity=False).hexdigest().encode()


def _content(asked: Asked) -> bytes | Json:
    """Elements of a data set or of an item, items of a sequence, or the value of an element."""
    found: Dataset = read_elements(asked.resource)
    steps = [step for step in (asked.groups[2] or "").split("/") if step]
    while steps:
        tag = parse_tag(steps.pop(0))
        if tag is None or tag not in found:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        element = found[tag]
        if element.VR != "SQ":
            if steps:
                raise failure(ErrorCode.UNKNOWN_RESOURCE)
            return _value(asked.resource, element)
        if not steps:
            return [str(number) for number in range(len(element.value or ()))]
        try:
            found = element.value[int(steps.pop(0))]
        except (ValueError, IndexError) as exc:
            raise failure(ErrorCode.UNKNOWN_RESOURCE) from exc
    return [tag_text(element.tag).replace(",", "-") for element in readable(found)]


def _value(instance: Resource, element: DataElement) -> bytes:
    """The bytes of a value, padded to even length as they stand in the file."""
    if element.tag == _PIXEL_DATA:
        raise failure(ErrorCode.NOT_IMPLEMENTED)
    if isinstance(element.value, bytes):
        return element.value
    encoded = (text_of(element) or "").encode()
    return encoded + (b"\0" if element.VR == "UI" else b" ") * (len(encoded) % 2)  # PS3.5 6.2


def _frames(asked: Asked) -> Json:
    data_set = read_elements(asked.resource)
    return list(range(int(data_set.get("NumberOfFrames", 1) or 1))) if _PIXEL_DATA in data_set else []


def _attachments(asked: Asked) -> Json:
    _ = asked.resource
    return ["dicom"]


def shared_tags(elements: Iterable[dict[str, Json]]) -> dict[str, Json]:
    """What all of several data sets have, with the same value, which is a text."""
    several = list(elements)
    first = several[0] if several else {}
    texts = {tag: value for tag, value in first.items() if isinstance(value, str) or _is_text(value)}
    return {tag: value for tag, value in texts.items() if all(each.get(tag) == value for each in several)}


def _is_text(value: Json) -> bool:
    return isinstance(value, dict) and value["Type"] == "String"


def _shared_tags(asked: Asked) -> Json:
    if asked.resource.level is Level.INSTANCE:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    instances = asked.resource.below(Level.INSTANCE)
    return shared_tags(to_json(read_elements(each), Shown(_form(asked))) for each in instances)


def _instances_tags(asked: Asked) -> Json:
    if asked.resource.level is Level.INSTANCE:
        raise failure(ErrorCode.UNKNOWN_RESOURCE)
    instances = asked.resource.below(Level.INSTANCE)
    return {each.identifier: to_json(read_elements(each), Shown(_form(asked))) for each in instances}


def _store(asked: Asked) -> Json:
    instance, is_new = asked.host.put(asked.body)
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
