"""Read the outcome of each object from a STOW-RS response (PS3.18 10.5.3), in DICOM JSON or in XML.

Only a response that names an object says anything about it. A login page with status 200 names none.
"""

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from plugin.delivery.sender import NotSent, Outcome, Sent
from plugin.dimse.response_status import Consequence, explained, store_meaning

# PS3.18 table 10.5.3-1 names the sequences, PS3.6 their tags; PS3.18 F.2 their form in JSON, PS3.19 A.1 that in XML.
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_SOP_INSTANCE_UID = "00080018"

_JSON = ("application/dicom+json", "application/json")
_XML = ("application/dicom+xml", "application/xml", "text/xml")
_UNNAMED = ""
"""Some servers name no media type; then the body has to be what it is expected to be."""

_Reasons = dict[str, int | None]
"""Reasons by SOP Instance UID, None without one."""


class Claimed(NotSent):
    """The destination says that it has the object already: whether it has, a search has to show."""


def read_outcome(body: bytes, sop_instance_uid: str, content_type: str = _JSON[0]) -> Outcome | None:
    """Return what a response says about one object of its request; None where it does not name it."""
    stored, failed = _read_lists(body, content_type)
    if sop_instance_uid in failed:
        return _refused(failed[sop_instance_uid])
    if sop_instance_uid not in stored:
        return None
    warning = stored[sop_instance_uid]
    if not warning:
        return Sent()
    return Sent(f"stored with warning 0x{warning:04X}", warning=store_meaning(warning).text or "a warning of its own")


def _refused(reason: int | None) -> NotSent:
    if reason is None:
        return NotSent("it refused the object without a reason")
    consequence = store_meaning(reason).consequence
    if consequence is Consequence.CLAIMED:
        return Claimed(f"it refused the object with reason 0x{reason:04X} ({store_meaning(reason).text})")
    if consequence is Consequence.GIVE_UP:
        return NotSent(f"it refused the object with reason {explained(reason)}", final=True)
    return NotSent(f"it refused the object with reason 0x{reason:04X}")


def search_finds(body: bytes, sop_instance_uid: str) -> bool | None:
    """Return whether the response to a search (PS3.18 10.6.3) lists an object; None where it is no such response."""
    if not body.strip():
        return False
    found = _parse_json(body)
    if not isinstance(found, list):
        return None
    return any(_uid(_first(item, _SOP_INSTANCE_UID)) == sop_instance_uid for item in found)


def _read_lists(body: bytes, content_type: str) -> tuple[_Reasons, _Reasons]:
    """Return the objects that were stored and those that failed; none where the body is no DICOM response."""
    stored: _Reasons = {}
    failed: _Reasons = {}
    if content_type in (*_JSON, _UNNAMED):
        found = _parse_json(body)
        for response in found if isinstance(found, list) else [found]:  # some servers send a list of one
            if isinstance(response, dict):
                stored |= _reasons(_items(response.get(_REFERENCED_SOP_SEQUENCE)), _WARNING_REASON, _first)
                failed |= _reasons(_items(response.get(_FAILED_SOP_SEQUENCE)), _FAILURE_REASON, _first)
    elif content_type in _XML:
        root = _parse_xml(body)
        stored |= _reasons(_xml_items(root, _REFERENCED_SOP_SEQUENCE), _WARNING_REASON, _xml_first)
        failed |= _reasons(_xml_items(root, _FAILED_SOP_SEQUENCE), _FAILURE_REASON, _xml_first)
    return stored, failed


def _reasons(items: list[Any], reason: str, first: Callable[[Any, str], Any]) -> _Reasons:
    found: _Reasons = {}
    for item in items:
        uid, code = _uid(first(item, _REFERENCED_SOP_INSTANCE_UID)), first(item, reason)
        if isinstance(code, str) and code.strip().isdecimal():  # XML has text alone, and some JSON, too
            code = int(code)
        if uid:
            found[uid] = code if isinstance(code, int) and 0 <= code <= 0xFFFF else None
    return found


def _uid(value: Any) -> str:
    return value.strip(" \0") if isinstance(value, str) else ""


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _items(sequence: Any) -> list[Any]:
    items = sequence.get("Value") if isinstance(sequence, dict) else None
    return items if isinstance(items, list) else []


def _first(item: Any, tag: str) -> Any:
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _parse_xml(body: bytes) -> ElementTree.Element:
    """Parse the Native DICOM Model; a document with declarations, which can expand without bound, counts as empty."""
    try:
        if b"<!" not in body:
            return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        pass
    return ElementTree.Element("NativeDicomModel")


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _attribute(parent: ElementTree.Element, tag: str) -> ElementTree.Element | None:
    attributes = (each for each in parent if _local(each) == "DicomAttribute")
    return next((each for each in attributes if each.get("tag", "").upper() == tag), None)


def _xml_items(root: ElementTree.Element, tag: str) -> list[Any]:
    sequence = _attribute(root, tag)
    return [each for each in sequence if _local(each) == "Item"] if sequence is not None else []


def _xml_first(item: ElementTree.Element, tag: str) -> str | None:
    attribute = _attribute(item, tag)
    values = [each.text for each in attribute if _local(each) == "Value"] if attribute is not None else []
    return values[0] if values else None
