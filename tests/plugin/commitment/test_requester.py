"""Asking destinations to commit: what is asked, what a report changes, and what changes nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import evt

from models.package import IntendedUse
from plugin.archive.store import EmbeddedArchive
from plugin.commitment.report_receiver import CommitmentReportReceiver
from plugin.commitment.requester import CommitmentRequester
from plugin.database.pool import Database
from plugin.delivery.deliverer import Deliverer
from plugin.dimse.association import EventHandler
from plugin.jobs import outbox
from plugin.jobs.outbox import OutboxState
from plugin.listener.listener import start_listener
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings, ListenerSettings
from tests.support.committing_pacs import CommittingPacs
from tests.support.node import make_instance, new_study_uid, wait_until, write_instance
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

QUICK = DeliverySettings(retry_first_s=0.05, retry_longest_s=0.1, timeout_s=5)


@pytest.fixture
def put(database: Database, tmp_path: Path) -> Callable[..., list[str]]:
    """Puts small objects into the outbox for a destination; returns their UIDs."""

    def put(destination: DestinationSettings, count: int = 2, age_h: int = 0) -> list[str]:
        uids = []
        with database.pool.connection() as connection:
            for number in range(count):
                instance = make_instance(new_study_uid(), sop_class=OUTPUT_CLASSES[number % 2])
                uid = str(instance.SOPInstanceUID)
                objects = [outbox.OutgoingObject(uid, write_instance(instance, tmp_path))]
                connection.execute(
                    "INSERT INTO glionode_jobs (key, study_instance_uid, instances_sha256, model_sha256, state) "
                    "VALUES (%s, '1', '', '', 'segmented')",
                    (uid,),
                )
                outbox.put(connection, uid, objects, (destination,), IntendedUse.RESEARCH)
                uids.append(uid)
            connection.execute("UPDATE glionode_outbox SET created_at = now() - make_interval(hours => %s)", (age_h,))
        return sorted(uids)

    return put


@contextmanager
def delivering(
    database: Database, destination: DestinationSettings, settings: DeliverySettings = QUICK, ask: bool = True
) -> Iterator[None]:
    stop = threading.Event()
    loops = [Deliverer(database.url, destination, "NODE", settings).run]
    if ask:
        loops.append(CommitmentRequester(database.url, destination, "NODE", settings).run)
    threads = [threading.Thread(target=loop, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def listening(database_of_session: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A listener that takes reports; gives its port."""
    archive = EmbeddedArchive(tmp_path_factory.mktemp("listening") / "archive", 0)
    archive.open()
    reports = CommitmentReportReceiver(database_of_session.url, QUICK)
    handlers = [EventHandler(evt.EVT_N_EVENT_REPORT, reports.on_event_report)]
    listener = start_listener(ListenerSettings(port=0), archive, lambda *_: None, commitment=handlers)
    yield listener.address.port
    listener.stop(2)


def states(database: Database) -> dict[str, str]:
    with database.pool.connection() as connection:
        return dict(connection.execute("SELECT sop_instance_uid, state FROM glionode_outbox").fetchall())


def all_are(database: Database, state: str) -> bool:
    return set(states(database).values()) == {state}


def column(database: Database, name: str) -> list[Any]:
    with database.pool.connection() as connection:
        return [row[0] for row in connection.execute(f"SELECT {name} FROM glionode_outbox ORDER BY sop_instance_uid")]


def settings_of(pacs: CommittingPacs, **more: object) -> DestinationSettings:
    return DestinationSettings.model_validate(pacs.destination(**more))


@pytest.mark.parametrize("own_association", [False, True])
def test_what_is_sent_is_committed(
    database: Database, put: Callable[..., list[str]], committing: CommittingPacs, listening: int, own_association: bool
) -> None:
    committing.report_to = listening if own_association else None
    destination = settings_of(committing)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "committed"), "both are committed")
        wait_until(lambda: set(committing.answers) == {0x0000}, "its report is answered")
    assert sorted(committing.received) == uids
    asked = [item for request in committing.asked for item in request.ReferencedSOPSequence]
    assert sorted(str(item.ReferencedSOPInstanceUID) for item in asked) == uids
    assert {str(item.ReferencedSOPClassUID) for item in asked} == set(OUTPUT_CLASSES)
    with database.pool.connection() as connection:
        told = connection.execute("SELECT what, peer_ae_title FROM glionode_audit ORDER BY id").fetchall()
    assert [what for what, _ in told] == ["sent", "sent", "committed", "committed"]
    assert {peer for _, peer in told} == {"PACS"}


def test_what_is_not_committed_to_is_sent_again(
    database: Database, put: Callable[..., list[str]], committing: CommittingPacs
) -> None:
    destination = settings_of(committing)
    kept, lost = put(destination)
    committing.failing = {lost: 0x0112}
    sent_before: list[int] = []

    def found_again(event: Any) -> int:
        sent_before.append(1)
        if len(sent_before) == 4:  # the two, then the one that is not there twice more
            committing.failing = {}
        return 0x0000

    committing.on_store = found_again
    with delivering(database, destination):
        wait_until(lambda: states(database)[kept] == "committed", "one is committed")
        wait_until(lambda: all_are(database, "committed"), "the other, too")
    assert (committing.received.count(kept), committing.received.count(lost)) == (1, 3)


def test_a_peer_that_never_commits_is_given_up(
    database: Database, put: Callable[..., list[str]], committing: CommittingPacs
) -> None:
    destination = settings_of(committing)
    (lost,) = put(destination, 1, age_h=73)
    committing.failing = {lost: 0x0110}
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "dead"), "it is given up")
    error = "the destination stored the object and does not commit to it (reason 0x0110)"
    assert column(database, "last_error") == [error]
    assert committing.received == [lost]


def test_a_report_that_never_comes_is_asked_for_again_and_then_given_up(
    database: Database, put: Callable[..., list[str]], committing: CommittingPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing.reports = False
    destination = settings_of(committing, commitment_timeout_s=0.1)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(lambda: len(committing.asked) >= 3, "it is asked again")
        assert all_are(database, "sent")
        with database.pool.connection() as connection:
            connection.execute("UPDATE glionode_outbox SET created_at = now() - interval '73 h'")
        wait_until(lambda: all_are(database, "dead"), "it is given up")
    transactions = [str(request.TransactionUID) for request in committing.asked]
    assert len(set(transactions)) == len(transactions)
    assert sorted(committing.received) == uids, "they were sent once"
    with database.pool.connection() as connection:
        assert outbox.retry(connection, [OutboxState.DEAD], None) == 2


def test_a_late_report_counts_and_a_second_one_does_not(
    database: Database,
    put: Callable[..., list[str]],
    committing: CommittingPacs,
    listening: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing.reports = False
    destination = settings_of(committing, commitment_timeout_s=0.1)
    first, second = put(destination)
    with delivering(database, destination):
        wait_until(lambda: any(len(r.ReferencedSOPSequence) == 2 for r in committing.asked[:-1]), "it is asked again")
    both = next(request for request in committing.asked if len(request.ReferencedSOPSequence) == 2)
    committing.report_to = listening
    committing.failing = {second: 0x0112}
    committing.report(committing.report_on(both))
    assert states(database) == {first: "committed", second: "failed"}
    committing.failing = {first: 0x0112}
    for request in committing.asked:
        committing.report(committing.report_on(request))
    assert states(database) == {first: "committed", second: "failed"}, "it has been answered for"
    assert set(committing.answers) == {0x0000}


def test_a_report_on_what_was_not_asked_changes_nothing(
    database: Database,
    put: Callable[..., list[str]],
    committing: CommittingPacs,
    listening: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plugin.commitment.requester._REPORT_WITHIN_S", 0.05)
    committing.reports = False
    destination = settings_of(committing)
    uids = put(destination)
    with delivering(database, destination):
        wait_until(lambda: sum(len(request.ReferencedSOPSequence) for request in committing.asked) == 2, "it is asked")
    committing.report_to = listening
    request = committing.asked[0]
    committing.failing = dict.fromkeys(uids, 0x0112)
    for transaction, uid in (("2.25.1", uids[0]), (str(request.TransactionUID), "1.2.3")):
        report = committing.report_on(request)
        report.TransactionUID = transaction
        report.FailedSOPSequence[0].ReferencedSOPInstanceUID = uid
        del report.FailedSOPSequence[1:]
        committing.report(report)
    assert all_are(database, "sent")
    assert set(committing.answers) == {0x0000}


@pytest.mark.parametrize(
    ("spoil", "event_type", "status"),
    [
        (lambda report: None, 3, 0x0113),
        (lambda report: delattr(report, "TransactionUID"), 1, 0x0115),
        (lambda report: delattr(report.ReferencedSOPSequence[0], "ReferencedSOPInstanceUID"), 1, 0x0115),
    ],
)
def test_a_report_that_is_none_is_refused(
    committing: CommittingPacs, listening: int, spoil: Callable[[Dataset], None], event_type: int, status: int
) -> None:
    committing.report_to = listening
    request = Dataset()
    request.TransactionUID = "1.2.3"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = OUTPUT_CLASSES[0], "1.2.4"
    request.ReferencedSOPSequence = [item]
    report = committing.report_on(request)
    spoil(report)
    committing.report(report, event_type=event_type)
    assert committing.answers == [status]


def test_a_peer_that_refuses_to_be_asked_is_asked_again(
    database: Database, put: Callable[..., list[str]], committing: CommittingPacs
) -> None:
    committing.statuses = [0x0110, 0x0213]
    destination = settings_of(committing)
    put(destination)
    with delivering(database, destination):
        wait_until(lambda: all_are(database, "committed"), "it is committed in the end")
    assert len(committing.received) == 2


def test_a_peer_without_storage_commitment_is_said_to_have_none(
    database: Database, put: Callable[..., list[str]], pacs: Any
) -> None:
    destination = DestinationSettings.model_validate(pacs.destination(storage_commitment=True))
    put(destination)
    with delivering(database, destination):
        wait_until(lambda: all(each >= 2 for each in column(database, "asks")), "it is asked twice")
    assert all_are(database, "sent")
    assert all("commitment" in error for error in column(database, "last_error"))
    without = destination.model_copy(update={"storage_commitment": False})
    with delivering(database, without, ask=False):
        wait_until(lambda: column(database, "ask_at") == [None, None], "it is not asked any more")
