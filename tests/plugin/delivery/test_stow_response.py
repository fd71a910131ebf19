"""The outcome of each object in a STOW-RS response: lists, reasons, and bodies that are not DICOM JSON."""

import json

import pytest

from plugin.delivery.sender import NotSent, Outcome, Sent
from plugin.delivery.stow_response import read_outcome


def listed(stored: dict[str, int | None], failed: dict[str, int | None]) -> bytes:
    """Return a response in DICOM JSON (PS3.18 F.2)."""

    def sequence(items: dict[str, int | None], reason: str) -> dict[str, object]:
        return {
            "vr": "SQ",
            "Value": [
                {"00081155": {"vr": "UI", "Value": [uid]}} | ({reason: {"vr": "US", "Value": [code]}} if code else {})
                for uid, code in items.items()
            ],
        }

    return json.dumps({"00081199": sequence(stored, "00081196"), "00081198": sequence(failed, "00081197")}).encode()


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, listed({"1.2": None}, {}), Sent()),
        (200, listed({"1.2": 0xB000}, {}), Sent("stored with warning 0xB000")),
        (202, listed({"1.2": None}, {"1.3": 0xA700}), Sent()),
        (202, listed({"1.3": None}, {"1.2": 0xA700}), NotSent("it refused the object with reason 0xA700")),
        (202, listed({"1.3": None}, {"1.2": None}), NotSent("it refused the object without a reason")),
        (409, listed({}, {"1.2": 0x0110}), NotSent("it refused the object with reason 0x0110")),
        (409, listed({}, {"1.2": 0x0111}), Sent("it had it already (0x0111)")),
        (202, listed({"1.3": None}, {}), NotSent("it responded with HTTP 202 and does not list this object")),
        (200, listed({"1.3": None}, {}), NotSent("it responded with HTTP 200 and does not list this object")),
        (200, b"", Sent("it answers HTTP 200 without a list of what it stored")),
        (409, b"<html>", NotSent("it responded with HTTP 409 and does not list this object")),
        (202, b"[" * 100_000, NotSent("it responded with HTTP 202 and does not list this object")),
        (200, b"[" + listed({"1.2": None}, {}) + b"]", Sent()),
        (202, b'{"00081199": {"Value": [{"00081155": {"Value": [1]}}, 3, {}]}, "00081198": []}', None),
    ],
)
def test_the_outcome_of_an_object_is_read_from_the_response(status: int, body: bytes, outcome: Outcome | None) -> None:
    assert read_outcome(status, body, "1.2") == (
        outcome or NotSent(f"it responded with HTTP {status} and does not list this object")
    )
