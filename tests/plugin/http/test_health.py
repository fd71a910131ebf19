"""What /health says of a database that does not answer, of workers that fetch nothing, and of deliveries that rest."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.lease import acquire
from plugin.database.pool import Database
from plugin.errors import DatabaseUnavailable
from plugin.http import database_probe
from plugin.http.database_probe import DatabaseProbe
from plugin.http.health import check_database, check_deliveries, check_workers, seconds_since
from plugin.jobs.job import new_job
from plugin.jobs.queue import JobQueue
from plugin.settings.destinations import DestinationSettings
from tests.support.delivery import put_object
from tests.support.node import new_study_uid, query, wait_until

DESTINATION = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)


@pytest.fixture
def probe(database: Database) -> Iterator[DatabaseProbe]:
    made = DatabaseProbe(database.url)
    yield made
    made.close()


def test_nobody_waits_for_a_database_that_hangs(
    database: Database, probe: DatabaseProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_probe, "_PATIENCE_S", 0.05)
    goes_on = threading.Event()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        probe.read(lambda _: goes_on.wait(5))
    for check in (check_database, check_workers):
        assert "does not answer" in (check(probe) or "")
    assert seconds_since(probe, ["pacs"]).keys() == {"database_answered"}
    goes_on.set()
    monkeypatch.setattr(database_probe, "_PATIENCE_S", 30.0)
    wait_until(lambda: check_database(probe) is None, "it answers again")


def test_a_server_that_was_started_anew_answers_at_once(database: Database, probe: DatabaseProbe) -> None:
    pid = probe.read(lambda connection: connection.info.backend_pid)
    with psycopg.connect(database.url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert check_database(probe) is None
    assert probe.read(lambda connection: connection.info.backend_pid) != pid


def test_a_job_that_is_due_while_a_worker_is_idle_is_reported(
    database: Database, queue: JobQueue, probe: DatabaseProbe
) -> None:
    query(database, "INSERT INTO procrastinate_workers DEFAULT VALUES")
    assert check_workers(probe) is None
    job = new_job(new_study_uid(), ["1"], "0")
    queue.add(job)
    assert check_workers(probe) is None, "it was just queued"
    query(database, "UPDATE procrastinate_events SET at = at - interval '70 s'")
    assert "no worker fetches it, though 1 are idle" in (check_workers(probe) or "")
    query(database, "UPDATE glionode_jobs SET finished_at = now() - interval '3 s'")
    assert check_workers(probe) is None, "a worker is between two jobs"
    query(database, "UPDATE glionode_jobs SET finished_at = NULL")
    query(
        database,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, worker_id) "
        "SELECT 'segment', 'x', 'another', 'doing', id FROM procrastinate_workers",
    )
    assert check_workers(probe) is None, "the worker runs another job"


def test_objects_that_are_due_without_a_deliverer_are_reported(
    database: Database, probe: DatabaseProbe, tmp_path: Path
) -> None:
    names = ["pacs", "another"]
    put_object(database, tmp_path, DESTINATION)
    assert check_deliveries(probe, names) is None, "they are new"
    query(database, "UPDATE glionode_outbox SET next_try = now() - interval '100 s'")
    found = check_deliveries(probe, names) or ""
    assert found.startswith("Objects have been due for pacs for 100 s, and no process sends to it")
    assert check_deliveries(probe, ["another"]) is None
    assert seconds_since(probe, names)["deliver pacs"] is None
    with psycopg.connect(database.url, autocommit=True) as connection:
        assert acquire(connection, "deliver pacs", threading.Event()) is not None
    assert check_deliveries(probe, names) is None, "one has the lease, and will send"
    assert 0 <= (seconds_since(probe, names)["deliver pacs"] or -1) < 60
    query(database, "UPDATE glionode_leases SET turned_at = now() - interval '1000 s'")
    assert "has stood still for 1000 s" in (check_deliveries(probe, names) or "")
    query(database, "UPDATE glionode_leases SET expires_at = now() - interval '1 s'")
    assert "no process sends to it" in (check_deliveries(probe, names) or "")


def test_a_destination_that_pauses_is_not_taken_for_one_without_a_deliverer(
    database: Database, probe: DatabaseProbe, tmp_path: Path
) -> None:
    put_object(database, tmp_path, DESTINATION)
    query(database, "UPDATE glionode_outbox SET next_try = now() - interval '100 s'")
    query(
        database,
        "INSERT INTO glionode_pauses (destination, error, next_try) VALUES ('pacs', '', now() + interval '1 h')",
    )
    assert check_deliveries(probe, ["pacs"]) is None
    query(database, "UPDATE glionode_pauses SET next_try = now() - interval '10 s'")
    assert check_deliveries(probe, ["pacs"]) is None, "its pause is just over"


def test_when_images_came_last_is_said(database: Database, probe: DatabaseProbe) -> None:
    assert seconds_since(probe, [])["images_received"] is None
    with database.pool.connection() as connection:
        at = datetime.now(UTC) - timedelta(hours=2)
        audit_log.record(connection, AuditEvent.RECEIVED, AuditSubject("1.2"), "3 new instances", None, at)
    assert 7200 <= (seconds_since(probe, [])["images_received"] or 0) < 7260
