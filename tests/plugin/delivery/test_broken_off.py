"""Objects with which a destination breaks the connection off hold up no others; a destination that is away pauses."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

from plugin.database.pool import Database
from plugin.delivery.sender import BrokenOff, Outcomes, Outgoing, Sent
from plugin.jobs import outbox
from plugin.jobs.destination_pauses import read_pauses, record_unreachable
from plugin.jobs.outbox import OutboxState
from plugin.jobs.queries import list_jobs, show_job
from plugin.settings.destinations import DestinationSettings, StowDestinationSettings
from plugin.settings.sections import DeliverySettings
from tests.support.delivery import QUICK, PutObject, delivering, put_object
from tests.support.fake_http_server import DROPPED
from tests.support.fake_stow_server import FakeStowServer
from tests.support.node import query, run, wait_until, write_model

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
SLOW = DeliverySettings(retry_first_s=3600, retry_longest_s=3600, timeout_s=5)
"""Nothing is tried a second time while a test runs."""


@pytest.fixture(autouse=True)
def restricted_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers accept only the SOP classes that they list; a listener of another test lifts that in its process."""
    monkeypatch.setattr("pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE", False)


@contextmanager
def peer(on_store: Callable[[Any], None]) -> Iterator[DestinationSettings]:
    """Run a PACS that calls `on_store` for each object before it answers with success."""

    def store(event: Any) -> int:
        on_store(event)
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context(SEG)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield PACS.model_copy(update={"port": server.server_address[1]})
    finally:
        server.shutdown()


@pytest.fixture
def put(database: Database, tmp_path: Path) -> PutObject:
    """Return a function that puts a small object into the outbox for a destination and returns its UID."""
    return partial(put_object, database, tmp_path)


def rows(database: Database) -> dict[str, tuple[str, int]]:
    """Return state and attempts of all objects."""
    found = query(database, "SELECT sop_instance_uid, state, attempts FROM glionode_outbox")
    return {uid: (state, attempts) for uid, state, attempts in found}


def state_counts(database: Database) -> dict[str, int]:
    return dict(query(database, "SELECT state, count(*) FROM glionode_outbox GROUP BY 1"))


@pytest.mark.parametrize(("how", "count"), [("abort", 1), ("abort", 6), ("close", 2), ("silence", 1)])
def test_only_the_object_with_which_a_peer_breaks_off_is_charged(
    how: str, count: int, database: Database, put: PutObject
) -> None:
    broken: set[str] = set()
    over = threading.Event()

    def break_off(event: Any) -> None:
        if str(event.request.AffectedSOPInstanceUID) in broken:
            if how == "abort":
                event.assoc.abort()
            elif how == "close":
                event.assoc.dul.socket.close()
            else:
                over.wait(30)

    with peer(break_off) as destination:
        uids = [put(destination) for _ in range(12)]
        broken.update(uids[2 : 2 + count])
        settings = SLOW.model_copy(update={"timeout_s": 0.5}) if how == "silence" else SLOW
        with delivering(database, destination, settings):
            wait_until(lambda: state_counts(database) == {"sent": 12 - count, "failed": count}, "the others are sent")
        over.set()
    assert rows(database) == {uid: ("failed" if uid in broken else "sent", 1) for uid in uids}


def test_a_peer_that_limits_what_it_takes_over_an_association_gets_all(database: Database, put: PutObject) -> None:
    taken: dict[Any, int] = {}

    def limit(event: Any) -> None:
        taken[event.assoc] = taken.get(event.assoc, 0) + 1
        if taken[event.assoc] > 2:
            event.assoc.abort()

    with peer(limit) as destination:
        uids = [put(destination) for _ in range(9)]
        with delivering(database, destination):
            wait_until(lambda: state_counts(database) == {"sent": 9}, "all are sent")
    assert all(rows(database)[uid][1] <= 2 for uid in uids), "each was under way once at most when it broke off"


class ScriptedSender:
    """Breaks off with some objects; calls `before` for each object that is under way."""

    peer = None

    def __init__(self, broken: set[str], before: Callable[[str], None] = lambda _: None) -> None:
        self.broken = broken
        self.before = before
        self.connections: list[list[str]] = []
        """The objects that were sent over each."""

    def send(self, objects: tuple[Outgoing, ...]) -> Outcomes:
        self.connections.append([])
        for each in objects:
            uid = each.entry.sop_instance_uid
            self.connections[-1].append(uid)
            self.before(uid)
            if uid in self.broken:
                raise BrokenOff("it broke off", (each,))
            yield each, Sent()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedSender:
    """The sender of all deliverers of a test."""
    made = ScriptedSender(set())
    monkeypatch.setattr("plugin.delivery.deliverer.make_sender", lambda *_: made)
    return made


def test_an_object_that_broke_off_goes_alone_and_last(
    database: Database, put: PutObject, scripted: ScriptedSender
) -> None:
    first, second, third = sorted(put(PACS) for _ in range(3))
    scripted.broken = {first, second}
    with delivering(database, PACS, SLOW):
        wait_until(lambda: state_counts(database) == {"failed": 2, "sent": 1}, "the third is sent")
    assert scripted.connections == [[first], [second], [third]]
    scripted.connections.clear()
    scripted.broken = {first}
    fourth = put(PACS)
    query(database, "UPDATE glionode_outbox SET next_try = now()")
    with delivering(database, PACS, SLOW):
        wait_until(lambda: state_counts(database) == {"failed": 1, "sent": 3}, "the second heals")
        wait_until(lambda: rows(database)[first] == ("failed", 2), "the first was tried again")
    assert scripted.connections[0] == [fourth]
    assert sorted(scripted.connections[1:]) == sorted([[first], [second]])


def test_what_is_withdrawn_meanwhile_is_not_sent_over_the_next_connection(
    database: Database, put: PutObject, scripted: ScriptedSender
) -> None:
    first, second, third = sorted(put(PACS) for _ in range(3))

    def withdraw(uid: str) -> None:
        if uid == first:
            query(database, "UPDATE glionode_outbox SET state = 'withdrawn' WHERE sop_instance_uid = %s", second)

    scripted.broken, scripted.before = {first}, withdraw
    with delivering(database, PACS, SLOW):
        wait_until(lambda: rows(database)[third][0] == "sent", "the third is sent")
    assert scripted.connections == [[first], [third]]
    assert rows(database)[second] == ("withdrawn", 0)


@pytest.mark.parametrize("status", [503, DROPPED])
def test_one_object_of_a_request_to_a_web_server_is_charged(status: int, database: Database, put: PutObject) -> None:
    server = FakeStowServer()
    destination = StowDestinationSettings(name="web", url=server.url)
    try:
        uids = [put(destination) for _ in range(6)]
        server.failing_uids, server.failing_status = {uids[3]}, status
        with delivering(database, destination, SLOW):
            wait_until(lambda: state_counts(database) == {"sent": 5, "failed": 1}, "the others are sent")
    finally:
        server.stop()
    assert rows(database) == {uid: ("failed" if uid == uids[3] else "sent", 1) for uid in uids}


def test_a_destination_that_is_away_pauses_and_no_object_is_charged(database: Database, put: PutObject) -> None:
    uids = [put(PACS) for _ in range(3)]

    def pause() -> float:
        with database.pool.connection() as connection:
            return record_unreachable(connection, "pacs", "away", lambda failures: 100.0 * failures, 72)[1]

    def due() -> list[str]:
        with database.pool.connection() as connection:
            return sorted(each.sop_instance_uid for each in outbox.due(connection, "pacs", 9))

    assert [pause() for _ in range(3)] == [100, 200, 300]
    assert rows(database) == dict.fromkeys(uids, ("failed", 0))
    later = put(PACS)
    assert due() == [], "nor is a new object a reason to try it earlier"
    with database.pool.connection() as connection:
        assert read_pauses(connection)["pacs"].failures == 3
        assert outbox.retry(connection, (OutboxState.FAILED,), None) == 3
    assert due() == sorted([*uids, later]), "a user does not wait for the pause"
    query(database, "UPDATE glionode_outbox SET retried_at = NULL, created_at = now() - interval '73 hours'")
    pause()
    assert state_counts(database) == {"dead": 4}
    audited = query(database, "SELECT detail FROM glionode_audit WHERE what = 'given up'")
    assert sorted(detail for (detail,) in audited) == sorted(f"{uid} to pacs: away" for uid in (*uids, later))


def test_a_destination_that_answers_again_gets_all_at_once(database: Database, put: PutObject) -> None:
    with peer(lambda _: None) as destination:
        pass
    for _ in range(3):
        put(destination)
    with delivering(database, destination, QUICK):
        wait_until(lambda: query(database, "SELECT 1 FROM glionode_pauses WHERE failures > 1"), "it is away")
    assert set(rows(database).values()) == {("failed", 0)}
    with peer(lambda _: None) as back, delivering(database, back, SLOW):
        wait_until(lambda: state_counts(database) == {"sent": 3}, "all are sent")
    assert query(database, "SELECT 1 FROM glionode_pauses") == []


def test_status_jobs_and_show_name_the_object(database: Database, put: PutObject, data_dir: Path) -> None:
    uid = put(PACS)
    with database.pool.connection() as connection:
        outbox.record_failed(connection, "pacs", uid, "it ended the association", 3600, alone=True)
        record_unreachable(connection, "pacs", "away", lambda _: 100.0, 72)
        assert list_jobs(connection, None, 0)[0].broken_off == [f"{uid} to pacs"]
        (output,) = show_job(connection, uid).outputs
    assert (output.deliveries[0].alone, output.deliveries[0].last_error) == (True, "it ended the association")
    write_model(data_dir / "models/stand-in")
    config = data_dir / "glionode.toml"
    config.write_text(
        f'[storage]\ndata_dir = "{data_dir / "data"}"\n[database]\nurl = "{database.url}"\n'
        f'[model]\nname = "stand-in"\ninstalled_dir = "{data_dir / "models"}"\n'
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 1\n'
    )
    text = " ".join(run(config, "status")[1].split())
    assert f"Broken off: pacs at {uid} of job {uid}, 1 tries; it goes alone, and the others go on: it ended" in text
    assert "could not be reached once since" in text
    assert json.loads(run(config, "jobs", "--json")[1])[0]["broken_off"] == [f"{uid} to pacs"]
    assert "broken off" in run(config, "jobs")[1]
