"""The outcome of each object in a STOW-RS response: lists, reasons, and bodies that are not DICOM JSON."""

import json

import pytest

from plugin.delivery.sender import NotSent, Outcome, Sent
from plugin.delivery.stow_response import Claimed, read_outcome, search_finds


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


def xml(stored: str, failed: str = "", reason: int | None = None) -> bytes:
    """Return a response in the Native DICOM Model (PS3.19 A.1)."""

    def sequence(tag: str, uid: str, code: int | None) -> str:
        of = f'<DicomAttribute tag="00081197" vr="US"><Value number="1">{code}</Value></DicomAttribute>' if code else ""
        return (
            f'<DicomAttribute tag="{tag}" vr="SQ"><Item number="1"><DicomAttribute tag="00081155" vr="UI">'
            f'<Value number="1">{uid}</Value></DicomAttribute>{of}</Item></DicomAttribute>'
        )

    items = sequence("00081199", stored, None) * bool(stored) + sequence("00081198", failed, reason) * bool(failed)
    model = f'<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models">{items}</NativeDicomModel>'
    return f'<?xml version="1.0"?>{model}'.encode()


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (listed({"1.2": None}, {}), Sent()),
        (listed({"1.2 \0": None}, {}), Sent()),
        (listed({"1.2": 0xB000}, {}), Sent("stored with warning 0xB000")),
        (listed({"1.2": 0xB123}, {}), Sent("stored with warning 0xB123")),
        (listed({"1.2": None}, {"1.3": 0xA700}), Sent()),
        (listed({"1.3": None}, {"1.2": 0xA700}), NotSent("it refused the object with reason 0xA700")),
        (listed({"1.2": None}, {"1.2": 0xA700}), NotSent("it refused the object with reason 0xA700")),
        (listed({"1.3": None}, {"1.2": None}), NotSent("it refused the object without a reason")),
        (listed({}, {"1.2": 0x0110}), NotSent("it refused the object with reason 0x0110")),
        (listed({}, {"1.2": 0x0124}), NotSent("it refused the object with reason 0x0124")),
        (listed({"1.3": None}, {}), None),
        (b"", None),
        (b"{}", None),
        (b"[]", None),
        (b"<html>", None),
        (b"[" * 100_000, None),
        (b"[" + listed({"1.2": None}, {}) + b"]", Sent()),
        (b"[" + listed({"1.3": None}, {}) + b"," + listed({"1.2": None}, {}) + b"]", Sent()),
        (b'{"00081199": {"Value": [{"00081155": {"Value": [1]}}, 3, {}]}, "00081198": []}', None),
    ],
)
def test_the_outcome_of_an_object_is_read_from_the_response(body: bytes, outcome: Outcome | None) -> None:
    assert read_outcome(body, "1.2") == outcome


@pytest.mark.parametrize("reason", [0x0117, 0x0122, 0xA900, 0xC000, 0xC122])
def test_a_reason_that_cannot_heal_is_final(reason: int) -> None:
    found = read_outcome(listed({}, {"1.2": reason}), "1.2")
    assert isinstance(found, NotSent)
    assert (found.final, f"reason 0x{reason:04X} (" in found.reason, "--dead" in found.reason) == (True, True, True)


def test_a_duplicate_has_to_be_searched_for() -> None:
    assert isinstance(read_outcome(listed({}, {"1.2": 0x0111}), "1.2"), Claimed)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (xml("1.2"), Sent()),
        (xml("1.2", "1.3", 42752), Sent()),
        (xml("1.3", "1.2", 42752), NotSent("it refused the object with reason 0xA700")),
        (xml("1.3", "1.2"), NotSent("it refused the object without a reason")),
        (xml("1.3"), None),
        (b"<html><p>1.2</p></html>", None),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + xml("1.2").partition(b"?>")[2], None),
        (b"<", None),
        (b"\xff\xfe\xfd", None),
    ],
)
def test_a_response_in_xml_is_read(body: bytes, outcome: Outcome | None) -> None:
    for content_type in ("application/dicom+xml", "text/xml"):
        assert read_outcome(body, "1.2", content_type) == outcome


def test_a_body_of_another_type_says_nothing() -> None:
    body = listed({"1.2": None}, {})
    assert read_outcome(body, "1.2", "text/html") is None
    assert read_outcome(body, "1.2", "application/dicom+xml") is None
    assert read_outcome(xml("1.2"), "1.2", "application/dicom+json") is None
    assert read_outcome(body, "1.2", "") == Sent(), "a server that names no type"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'[{"00080018": {"vr": "UI", "Value": ["1.2"]}}]', True),
        (b'[{"00080018": {"vr": "UI", "Value": ["1.3"]}}]', False),
        (b'[{"0020000D": {"vr": "UI", "Value": ["1.2"]}}, 7]', False),
        (b"[]", False),
        (b"", False),
        (b"<html>1.2</html>", None),
        (b'{"error": "1.2"}', None),
    ],
)
def test_a_search_finds_what_it_lists(body: bytes, found: bool | None) -> None:
    assert search_finds(body, "1.2") is found
