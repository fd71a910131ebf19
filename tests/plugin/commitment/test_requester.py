"""Storage Commitment as SCU: requests to destinations, and what their reports change."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import pytest
from pydicom import Dataset
from pynetdicom import evt

from plugin.archive.store import EmbeddedArchive
from plugin.commitment.report_receiver import CommitmentReportReceiver
from plugin.database.pool import Database
from plugin.dimse.association import EventHandler
from plugin.jobs import outbox
from plugin.jobs.outbox import OutboxState
from plugin.listener.c_store_handler import StoreEvents
from plugin.listener.listener import start_listener
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import ListenerSettings
from tests.support.committing_pacs import CommittingPacs
from tests.support.delivery import QUICK, delivering, put_object
from tests.support.node import query, wait_until
from tests.support.stand_in_segmenter import OUTPUT_CLASSES


@pytest.fixture
def put(database: Database, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that puts small objects into the outbox for a destination and returns their UIDs."""

    def put(destination: DestinationSettings, count: int = 2, age_h: int = 0) -> list[str]:
        classes = [OUTPUT_CLASSES[number % 2] for number in range(count)]
        return sorted(put_object(database, tmp_path, destination, each, age_h) for each in classes)

    return put


@pytest.fixture(scope="module")
def reports_port(database_of_session: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a listener that accepts reports; return its port."""
    archive = EmbeddedArchive(tmp_path_factory.mktemp("listener") / "archive", 0)
    archive.open()
    reports = CommitmentReportReceiver(database_of_session.url, QUICK)
    handlers = [EventHandler(evt.EVT_N_EVENT_REPORT, reports.on_event_report)]
    listener = start_listener(ListenerSettings(port=0), archive, StoreEvents(lambda *_: None), commitment=handlers)
    yield listener.address.port
    listener.stop(2)


def states(database: Database) -> dict[str, str]:
    return dict(query(database, "SELECT sop_instance_uid, state FROM glionode_outbox"))


def all_are(database: Database, state: str) -> bool:
    return set(states(database).values()) == {state}


def column(database: Database, name: LiteralString) -> list[Any]:
    return [value for (value,) in query(database, f"SELECT {name} FROM glionode_outbox ORDER BY sop_instance_uid")]


def settings_for(pacs: CommittingPacs, **more: object) -> DestinationSettings:
    return DestinationSettings.model_validate(pacs.destination(**more))


@pytest.mark.parametrize("own_association", [False, True])
def test_sent_objects_are_committed(
    database: Database,
    put: Callable[..., list[str]],
    committing_pacs: CommittingPacs,
    reports_port: int,
    own_association: bool,
) -> None:
    committing_pacs.report_to = reports_port if own_association else None
    destination = settings_for(committing_pacs)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "committed"), "both are committed")
        wait_until(lambda: set(committing_pacs.report_statuses) == {0x0000}, "its report gets its response")
    assert sorted(committing_pacs.received) == uids
    asked = [item for request in committing_pacs.requests for item in request.ReferencedSOPSequence]
    assert sorted(str(item.ReferencedSOPInstanceUID) for item in asked) == uids
    assert {str(item.ReferencedSOPClassUID) for item in asked} == set(OUTPUT_CLASSES)
    audited = query(database, "SELECT what, peer_ae_title FROM glionode_audit ORDER BY id")
    assert [what for what, _ in audited] == ["sent", "sent", "committed", "committed"]
    assert {peer for _, peer in audited} == {"PACS"}


def test_an_object_that_is_not_committed_is_sent_again(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs
) -> None:
    destination = settings_for(committing_pacs)
    kept, lost = put(destination)
    committing_pacs.failing = {lost: 0x0112}
    sent_before: list[int] = []

    def store_found_again(event: Any) -> int:
        sent_before.append(1)
        if len(sent_before) == 4:  # the two, then the one that is not there twice more
            committing_pacs.failing = {}
        return 0x0000

    committing_pacs.on_store = store_found_again
    with delivering(database, destination):
        wait_until(lambda: states(database)[kept] == "committed", "one is committed")
        wait_until(lambda: all_are(database, "committed"), "the other, too")
    assert (committing_pacs.received.count(kept), committing_pacs.received.count(lost)) == (1, 3)


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_a_reason_that_cannot_heal_is_told_at_once(
    reason: int, database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs
) -> None:
    destination = settings_for(committing_pacs)
    kept, refused = put(destination)
    committing_pacs.failing = {refused: reason}
    with delivering(database, destination):
        wait_until(lambda: states(database) == {kept: "committed", refused: "dead"}, "it is given up")
    assert committing_pacs.received.count(refused) == 1
    ((error,),) = query(database, "SELECT last_error FROM glionode_outbox WHERE sop_instance_uid = %s", refused)
    assert f"reason 0x{reason:04X}: it " in error


@pytest.mark.parametrize("reason", [0x0131, 0x0213])
def test_a_reason_that_says_nothing_of_the_object_is_asked_about_again(
    reason: int, database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs
) -> None:
    destination = settings_for(committing_pacs)
    uids = put(destination)
    committing_pacs.failing = {uids[1]: reason}
    with delivering(database, destination):
        wait_until(lambda: len(committing_pacs.requests) >= 3, "it is asked again")
        assert states(database)[uids[1]] == "sent"
        committing_pacs.failing = {}
        wait_until(lambda: all_are(database, "committed"), "it commits in the end")
    assert sorted(committing_pacs.received) == uids, "each was sent once"
    transactions = [str(request.TransactionUID) for request in committing_pacs.requests]
    assert len(set(transactions)) == len(transactions)


def test_an_object_that_a_report_lists_twice_is_not_committed(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs, reports_port: int
) -> None:
    committing_pacs.reports = False
    destination = settings_for(committing_pacs)
    (uid,) = put(destination, 1)
    with delivering(database, destination):
        wait_until(lambda: len(committing_pacs.requests) == 1, "it is requested")
        committing_pacs.report_to = reports_port
        report = committing_pacs.make_report(committing_pacs.requests[0])
        committing_pacs.failing = {uid: 0x0119}
        report.FailedSOPSequence = committing_pacs.make_report(committing_pacs.requests[0]).FailedSOPSequence
        committing_pacs.send_report(report)
        assert states(database) == {uid: "dead"}


def test_a_commitment_under_another_class_is_none(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs, reports_port: int
) -> None:
    committing_pacs.reports = False
    destination = settings_for(committing_pacs)
    (uid,) = put(destination, 1)
    with delivering(database, destination):
        wait_until(lambda: len(committing_pacs.requests) == 1, "it is requested")
        committing_pacs.report_to = reports_port
        report = committing_pacs.make_report(committing_pacs.requests[0])
        report.ReferencedSOPSequence[0].ReferencedSOPClassUID = OUTPUT_CLASSES[1]
        committing_pacs.send_report(report)
        assert states(database) == {uid: "dead"}
    assert "under another SOP class" in column(database, "last_error")[0]


def test_a_peer_that_never_commits_is_given_up(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs
) -> None:
    destination = settings_for(committing_pacs)
    (lost,) = put(destination, 1, age_h=73)
    committing_pacs.failing = {lost: 0x0110}
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "dead"), "it is given up")
    error = "the destination stored the object and does not commit to it (reason 0x0110)"
    assert column(database, "last_error") == [error]
    assert committing_pacs.received == [lost]


def test_without_a_report_commitment_is_requested_again_and_then_given_up(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing_pacs.reports = False
    destination = settings_for(committing_pacs, commitment_timeout_s=0.1)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(lambda: len(committing_pacs.requests) >= 3, "it is requested again")
        assert all_are(database, "sent")
        query(database, "UPDATE glionode_outbox SET created_at = now() - interval '73 h'")
        wait_until(lambda: all_are(database, "dead"), "it is given up")
    transactions = [str(request.TransactionUID) for request in committing_pacs.requests]
    assert len(set(transactions)) == len(transactions)
    assert sorted(committing_pacs.received) == uids, "they were sent once"
    with database.pool.connection() as connection:
        assert outbox.retry(connection, [OutboxState.DEAD], None) == 2


def test_a_late_report_is_applied_and_a_second_one_is_not(
    database: Database,
    put: Callable[..., list[str]],
    committing_pacs: CommittingPacs,
    reports_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing_pacs.reports = False
    destination = settings_for(committing_pacs, commitment_timeout_s=0.1)
    first, second = put(destination)
    with delivering(database, destination):
        wait_until(
            lambda: any(len(r.ReferencedSOPSequence) == 2 for r in committing_pacs.requests[:-1]),
            "it is requested again",
        )
    both = next(request for request in committing_pacs.requests if len(request.ReferencedSOPSequence) == 2)
    committing_pacs.report_to = reports_port
    committing_pacs.failing = {second: 0x0112}
    committing_pacs.send_report(committing_pacs.make_report(both))
    assert states(database) == {first: "committed", second: "failed"}
    committing_pacs.failing = {first: 0x0112}
    for request in committing_pacs.requests:
        committing_pacs.send_report(committing_pacs.make_report(request))
    assert states(database) == {first: "committed", second: "failed"}, "it has been reported on"
    assert set(committing_pacs.report_statuses) == {0x0000}


def test_a_report_on_other_transactions_or_objects_changes_nothing(
    database: Database,
    put: Callable[..., list[str]],
    committing_pacs: CommittingPacs,
    reports_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing_pacs.reports = False
    destination = settings_for(committing_pacs)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(
            lambda: sum(len(request.ReferencedSOPSequence) for request in committing_pacs.requests) == 2,
            "it is requested",
        )
    committing_pacs.report_to = reports_port
    request = committing_pacs.requests[0]
    committing_pacs.failing = dict.fromkeys(uids, 0x0112)
    for transaction, uid in (("2.25.1", uids[0]), (str(request.TransactionUID), "1.2.3")):
        report = committing_pacs.make_report(request)
        report.TransactionUID = transaction
        report.FailedSOPSequence[0].ReferencedSOPInstanceUID = uid
        del report.FailedSOPSequence[1:]
        committing_pacs.send_report(report)
    assert all_are(database, "sent")
    assert set(committing_pacs.report_statuses) == {0x0000}


@pytest.mark.parametrize(
    ("damage", "event_type", "status"),
    [
        (lambda report: None, 3, 0x0113),
        (lambda report: delattr(report, "TransactionUID"), 1, 0x0115),
        (lambda report: delattr(report.ReferencedSOPSequence[0], "ReferencedSOPInstanceUID"), 1, 0x0115),
    ],
)
def test_an_invalid_report_is_refused(
    committing_pacs: CommittingPacs, reports_port: int, damage: Callable[[Dataset], None], event_type: int, status: int
) -> None:
    committing_pacs.report_to = reports_port
    request = Dataset()
    request.TransactionUID = "1.2.3"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = OUTPUT_CLASSES[0], "1.2.4"
    request.ReferencedSOPSequence = [item]
    report = committing_pacs.make_report(request)
    damage(report)
    committing_pacs.send_report(report, event_type=event_type)
    assert committing_pacs.report_statuses == [status]


def test_a_refused_request_is_sent_again(
    database: Database, put: Callable[..., list[str]], committing_pacs: CommittingPacs
) -> None:
    committing_pacs.statuses = [0x0110, 0x0213]
    destination = settings_for(committing_pacs)
    put(destination)
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "committed"), "it is committed in the end")
    assert len(committing_pacs.received) == 2


def test_a_peer_without_storage_commitment_is_reported_as_such(
    database: Database, put: Callable[..., list[str]], pacs: Any
) -> None:
    destination = DestinationSettings.model_validate(pacs.destination(storage_commitment=True))
    put(destination)
    with delivering(database, destination):
        wait_until(lambda: all(each >= 2 for each in column(database, "asks")), "it is requested twice")
    assert all_are(database, "sent")
    assert all("commitment" in error for error in column(database, "last_error"))
    without = destination.model_copy(update={"storage_commitment": False})
    with delivering(database, without):
        wait_until(lambda: column(database, "ask_at") == [None, None], "it is no longer requested")
