"""Sending to Orthanc and through it: the outcome of each of its responses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugin.delivery.deliverer import echo
from plugin.delivery.orthanc_sender import OrthancSender
from plugin.delivery.sender import BrokenOff, NotSent, Outcome, Outgoing, Sent
from plugin.errors import PeerFailed
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings
from tests.support.fake_http_server import DROPPED
from tests.support.fake_orthanc_server import FakeOrthancServer
from tests.support.node import write_outgoing

MODALITY = "/modalities/pacs"
TRANSACTION = "/storage-commitment/2.25.1"


@pytest.fixture
def web() -> Iterator[FakeOrthancServer]:
    made = FakeOrthancServer()
    made.answers = {
        "GET /system": (200, {}),
        f"POST {MODALITY}/store": (200, {"StorageCommitmentTransactionUID": "2.25.1"}),
        f"POST {MODALITY}/echo": (200, {}),
        "POST /peers/elsewhere/store": (200, {}),
    }
    yield made
    made.stop()


@pytest.fixture
def objects(tmp_path: Path) -> list[Outgoing]:
    """Return two objects of a study, as the outbox has them."""
    return write_outgoing(tmp_path / "results", 2)


def destination(**keys: object) -> OrthancDestinationSettings:
    return OrthancDestinationSettings.model_validate({"name": "orthanc", "via": "orthanc", **keys})


def sent(web: FakeOrthancServer, objects: list[Outgoing], **keys: object) -> list[Outcome]:
    """Send objects; return their outcomes in the order of the objects."""
    sender = OrthancSender(destination(**keys), OrthancSettings(url=web.url), 5)
    return [outcome for _, outcome in sender.send(objects)]


def test_objects_are_stored_byte_for_byte_and_once(web: FakeOrthancServer, objects: list[Outgoing]) -> None:
    assert sent(web, objects) == [Sent(), Sent()]
    assert sent(web, objects) == [Sent(), Sent()], "storing an object again changes nothing"
    assert sorted(web.files.values()) == sorted(Path(each.entry.path).read_bytes() for each in objects)


@pytest.mark.parametrize(
    ("keys", "path"), [({"modality": "pacs"}, f"{MODALITY}/store"), ({"peer": "elsewhere"}, "/peers/elsewhere/store")]
)
def test_orthanc_forwards_objects(
    web: FakeOrthancServer, objects: list[Outgoing], keys: dict[str, str], path: str
) -> None:
    assert sent(web, objects, **keys) == [Sent("sent on by Orthanc")] * 2
    commands = [json.loads(body) for request, body in zip(web.requests, web.bodies, strict=True) if path in request]
    assert commands == [{"Resources": [each], "Synchronous": True} for each in web.files]


@pytest.mark.parametrize(
    ("reports", "outcome"),
    [
        ([{"Status": "Success"}], Sent("sent on by Orthanc, and committed to")),
        (
            [{"Status": "Pending"}],
            NotSent("the destination stored the object and did not report on commitment in time"),
        ),
        (
            [{"Status": "Failure", "Failures": [{"FailureReason": 0x0112}]}],
            NotSent("the destination stored the object and does not commit to it (0x0112)"),
        ),
    ],
)
def test_commitment_is_waited_for(
    web: FakeOrthancServer, objects: list[Outgoing], reports: list[dict[str, Any]], outcome: Outcome
) -> None:
    web.answers[f"GET {TRANSACTION}"] = (200, reports[0])
    keys = {"modality": "pacs", "storage_commitment": True, "commitment_timeout_s": 0.1}
    assert sent(web, objects[:1], **keys) == [outcome]
    command = json.loads(web.bodies[web.requests.index(f"POST {MODALITY}/store")])
    assert command["StorageCommitment"] is True


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {"Status": "FilteredByAPlugin"}), "Orthanc did not store the object"),
        ((200, b"?"), "Orthanc did not store the object"),
        ((200, {"Status": "Success", "ID": "../../x"}), "Orthanc did not store the object"),
        ((400, {}), "HTTP 400"),
        ((507, {}), "HTTP 507"),
    ],
)
def test_an_object_that_orthanc_refuses_delays_no_other(
    web: FakeOrthancServer, objects: list[Outgoing], answer: tuple[int, object], why: str
) -> None:
    web.answers["POST /instances"] = answer
    outcomes = sent(web, objects)
    assert [isinstance(each, NotSent) and why in each.reason for each in outcomes] == [True, True]


def test_an_object_that_orthanc_does_not_find_by_its_uid_is_not_stored(
    web: FakeOrthancServer, objects: list[Outgoing]
) -> None:
    for found in ([], {}, [{"ID": "0" * 8, "Type": "Instance"}]):
        web.answers["POST /tools/lookup"] = (200, found)
        (outcome,) = sent(web, objects[:1])
        assert isinstance(outcome, NotSent)
        assert "does not find it by its UID" in outcome.reason
    web.answers["POST /instances"] = (200, b"<html>login</html>")
    (outcome,) = sent(web, objects[:1])
    assert outcome == NotSent("Orthanc did not store the object; or something else responds at orthanc.url")


@pytest.mark.parametrize(
    "answer",
    [b"<html>", [], {"InstancesCount": 1, "FailedInstancesCount": 1}, {"InstancesCount": 0, "FailedInstancesCount": 0}],
)
def test_an_object_that_was_not_forwarded_is_sent_again(
    web: FakeOrthancServer, objects: list[Outgoing], answer: object
) -> None:
    web.answers[f"POST {MODALITY}/store"] = (200, answer)
    (outcome,) = sent(web, objects[:1], modality="pacs")
    assert isinstance(outcome, NotSent)
    assert "does not say that it sent the object" in outcome.reason
    web.answers[f"POST {MODALITY}/store"] = (200, {"InstancesCount": 1, "FailedInstancesCount": 0})
    assert sent(web, objects[:1], modality="pacs") == [Sent("sent on by Orthanc")]


def test_a_commitment_counts_for_the_objects_that_it_names(web: FakeOrthancServer, objects: list[Outgoing]) -> None:
    keys = {"modality": "pacs", "storage_commitment": True, "commitment_timeout_s": 0.1}
    uid = objects[0].entry.sop_instance_uid
    web.answers[f"GET {TRANSACTION}"] = (200, {"Status": "Success", "Success": [{"SOPInstanceUID": "1.2.3"}]})
    (outcome,) = sent(web, objects[:1], **keys)
    assert isinstance(outcome, NotSent)
    web.answers[f"GET {TRANSACTION}"] = (200, {"Status": "Success", "Success": [{"SOPInstanceUID": uid}]})
    assert sent(web, objects[:1], **keys) == [Sent("sent on by Orthanc, and committed to")]
    web.answers[f"GET {TRANSACTION}"] = (200, {"Status": "Failure", "Failures": [{"FailureReason": 0x0122}]})
    (outcome,) = sent(web, objects[:1], **keys)
    assert isinstance(outcome, NotSent)
    assert (outcome.final, "0x0122: it does not commit" in outcome.reason) == (True, True)


@pytest.mark.parametrize("status", [408, 502, 503, 504, DROPPED])
@pytest.mark.parametrize("keys", [{}, {"modality": "pacs"}])
def test_an_object_with_which_orthanc_breaks_off_is_told_from_an_orthanc_that_is_away(
    web: FakeOrthancServer, objects: list[Outgoing], status: int, keys: dict[str, str]
) -> None:
    web.statuses = [status]
    with pytest.raises(BrokenOff) as broken_off:
        sent(web, objects, **keys)
    assert broken_off.value.objects == (objects[0],)
    web.statuses = [status, status]
    with pytest.raises(PeerFailed) as raised:
        sent(web, objects, **keys)
    assert not isinstance(raised.value, BrokenOff)


@pytest.mark.parametrize("status", [404, 429])
def test_an_unavailable_orthanc_is_a_failure_of_the_peer(
    web: FakeOrthancServer, objects: list[Outgoing], status: int
) -> None:
    web.statuses = [status]
    with pytest.raises(PeerFailed, match=f"HTTP {status}"):
        sent(web, objects)


def test_a_refusing_modality_is_told_from_an_unreachable_one(web: FakeOrthancServer, objects: list[Outgoing]) -> None:
    web.answers[f"POST {MODALITY}/store"] = (500, {})
    (first, second) = sent(web, objects, modality="pacs")
    assert isinstance(first, NotSent)
    assert isinstance(second, NotSent)
    assert "refused the object" in first.reason
    web.answers[f"POST {MODALITY}/echo"] = (500, {})
    with pytest.raises(PeerFailed, match="cannot reach /modalities/pacs"):
        sent(web, objects, modality="pacs")
    with pytest.raises(PeerFailed, match="check its OrthancPeers"):
        sent(web, objects, peer="unknown")


def test_echo_asks_orthanc_or_its_modality(web: FakeOrthancServer) -> None:
    orthanc = OrthancSettings(url=web.url)
    assert echo(destination(), "GLIONODE", 5, orthanc).answered
    assert echo(destination(modality="pacs"), "GLIONODE", 5, orthanc).answered
    unknown = echo(destination(modality="other"), "GLIONODE", 5, orthanc)
    assert (unknown.answered, unknown.message) == (
        False,
        "Orthanc does not know /modalities/other; check its DicomModalities",
    )
    web.require_password("glionode", "secret")
    assert "denies access" in echo(destination(), "GLIONODE", 5, orthanc).message
