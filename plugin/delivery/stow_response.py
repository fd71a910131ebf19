"""Read the outcome of each object from a STOW-RS response (PS3.18 10.5.3)."""

import json
from typing import Any

from plugin.delivery.sender import NotSent, Outcome, Sent

# PS3.18 table 10.5.3-1 names the sequences, PS3.6 their tags; PS3.18 F.2 their form in JSON.
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"

_ALL_STORED, _SOME_STORED, _NONE_STORED = 200, 202, 409
STATUSES_WITH_OUTCOMES = (_ALL_STORED, _SOME_STORED, _NONE_STORED)
"""HTTP statuses of a response that lists the outcome of each object."""
_DUPLICATE = 0x0111
"""PS3.7 C.5, Duplicate SOP Instance: it counts as stored, because equal UIDs of the node always mean equal bytes."""


_Reasons = dict[str, int | None]
"""Reasons by SOP Instance UID, None without one."""


def read_outcome(status: int, body: bytes, sop_instance_uid: str) -> Outcome:
    """Return the outcome of one object of a request, from the HTTP status and body of the response."""
    stored, failed = _read_lists(body)
    if sop_instance_uid in failed:
        reason = failed[sop_instance_uid]
        if reason == _DUPLICATE:
            return Sent("it had it already (0x0111)")
        return NotSent(
            f"it refused the object {'without a reason' if reason is None else f'with reason 0x{reason:04X}'}"
        )
    if sop_instance_uid in stored:
        warning = stored[sop_instance_uid]
        return Sent(None if warning is None else f"stored with warning 0x{warning:04X}")
    if status == _ALL_STORED and not stored and not failed:
        return Sent("it answers HTTP 200 without a list of what it stored")
    return NotSent(f"it responded with HTTP {status} and does not list this object")


def _read_lists(body: bytes) -> tuple[_Reasons, _Reasons]:
    """Return the objects that were stored and those that failed; none where the body is not DICOM JSON."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list):  # some servers send a list of one
        found = found[0] if found else None
    response = found if isinstance(found, dict) else {}
    stored = _reasons(response.get(_REFERENCED_SOP_SEQUENCE), _WARNING_REASON)
    return stored, _reasons(response.get(_FAILED_SOP_SEQUENCE), _FAILURE_REASON)


def _reasons(sequence: Any, reason: str) -> _Reasons:
    items = sequence.get("Value") if isinstance(sequence, dict) else None
    found: _Reasons = {}
    for item in items if isinstance(items, list) else ():
        uid, code = _first(item, _REFERENCED_SOP_INSTANCE_UID), _first(item, reason)
        if isinstance(uid, str):
            found[uid] = code if isinstance(code, int) and 0 <= code <= 0xFFFF else None
    return found


def _first(item: Any, tag: str) -> Any:
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
