"""The warnings of /health, `glionode status` and /metrics: what will need a person though the node works."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from plugin.archive.quarantine import quarantine_folder
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.database.pool import Database
from plugin.http.database_probe import DatabaseProbe
from plugin.http.health import Health
from plugin.http.metrics_collector import NodeMetricsCollector
from plugin.http.warning_checks import find_warnings
from plugin.jobs import rows
from plugin.jobs.backlog import Backlog, DeliveryBacklog, read_backlog
from plugin.jobs.job import Job, JobState, Restart
from plugin.settings.sections import Settings
from tests.support.certificates import Authority
from tests.support.node import insert_job, query

STUDY = "1.2.826.0.1.3680043.8.498.77"


def settings_in(folder: Path, **alerts: Any) -> Settings:
    values = {"free_mb": 0, **alerts}
    return Settings(storage={"data_dir": str(folder), "minimum_free_mb": 0}, alerts=values)


def insert_delivery(database: Database, number: int, state: str, waits_s: float = 0) -> None:
    query(
        database,
        "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state, created_at) "
        "VALUES (%s, 'pacs', 'k', '', %s, now() - make_interval(secs => %s))",
        *(f"{STUDY}.{number}", state, waits_s),
    )


def insert_aged_job(database: Database, key: str, state: str, age_h: int) -> None:
    insert_job(database, key, STUDY, state)
    query(
        database,
        "UPDATE glionode_jobs SET created_at = now() - make_interval(hours => %s), finished_at = "
        "CASE WHEN state = 'failed' THEN now() - make_interval(hours => %s) END WHERE key = %s",
        *(age_h, age_h, key),
    )


def test_a_node_in_order_warns_of_nothing(database: Database, tmp_path: Path) -> None:
    insert_job(database, "k", STUDY)
    insert_delivery(database, 1, "sent", waits_s=1e6)
    insert_delivery(database, 2, "queued", waits_s=60)
    assert find_warnings(settings_in(tmp_path), DatabaseProbe(database.url)) == {}


def test_each_kind_of_backlog_warns(database: Database, tmp_path: Path) -> None:
    insert_aged_job(database, "k", "failed", age_h=23)
    insert_aged_job(database, "old", "failed", age_h=25)
    insert_aged_job(database, "waiting", "queued", age_h=5)
    for number, state in enumerate(("dead", "dead", "held", "failed")):
        insert_delivery(database, number, state, waits_s=7200)
    with database.pool.connection() as connection:
        at = datetime.now(UTC) - timedelta(hours=30)
        audit_log.record(
            connection, AuditEvent.RECEIVED, AuditSubject(STUDY), "3 new instances", Peer("MR1", "192.0.2.1"), at
        )
    found = find_warnings(settings_in(tmp_path, silent_after_h=24), DatabaseProbe(database.url))
    assert sorted(found) == [
        *("dead_deliveries", "failed_jobs", "held_results", "reception", "waiting_deliveries", "waiting_jobs")
    ]
    assert found["failed_jobs"].startswith("Jobs failed in the last 24 hours: 1;"), "the older one is known"
    assert found["waiting_jobs"].startswith("A job has waited for 5.0 h")
    assert found["dead_deliveries"].startswith("Given up: 2 objects for pacs;")
    assert found["held_results"].startswith("Empty results are held: 1 objects for pacs;")
    assert found["waiting_deliveries"].startswith("Results wait for pacs for 2.0 h;")
    assert found["reception"].startswith("No image has come for 30.0 h;")
    assert STUDY not in str(found)
    never = find_warnings(settings_in(tmp_path, silent_after_h=0), DatabaseProbe(database.url))
    assert never.keys() == found.keys() - {"reception"}


def test_a_job_that_is_retried_waits_from_then_on(database: Database) -> None:
    insert_aged_job(database, "k", "failed", age_h=100)
    with database.pool.connection() as connection:
        rows.write(connection, Job("k", STUDY, "", "", JobState.FAILED), Restart())
        assert read_backlog(connection) == Backlog(0, pytest.approx(0, abs=60), {}, 0, None)  # type: ignore[arg-type]


def test_a_result_that_is_made_again_because_it_was_lost_warns(database: Database, tmp_path: Path) -> None:
    insert_job(database, "k", STUDY, "queued")
    assert find_warnings(settings_in(tmp_path), DatabaseProbe(database.url)) == {}
    query(database, "UPDATE glionode_jobs SET result_lost = true")
    (sentence,) = find_warnings(settings_in(tmp_path), DatabaseProbe(database.url)).values()
    assert sentence.startswith("Results that were lost or damaged on disk are made again: 1; look after the disk")


def test_deliveries_are_counted_for_each_destination(database: Database) -> None:
    insert_job(database, "k", STUDY)
    insert_delivery(database, 1, "queued", waits_s=50)
    insert_delivery(database, 2, "failed", waits_s=100)
    insert_delivery(database, 3, "held", waits_s=500)
    with database.pool.connection() as connection:
        found = read_backlog(connection).deliveries
    assert found == {"pacs": DeliveryBacklog(2, 0, 1, pytest.approx(100, abs=60))}


def test_disk_quarantine_and_certificates_warn(tmp_path: Path, program: Any) -> None:
    made = Authority(program, tmp_path / "authority").sign("node", days=20)
    folder = quarantine_folder(tmp_path)
    folder.mkdir()
    for name, age_h in (("new", 1), ("old", 25)):
        (folder / f"{name}.dcm").write_bytes(b"no DICOM")
        os.utime(folder / f"{name}.dcm", (time.time() - age_h * 3600,) * 2)
    http = {"tls_certificate": made.certificate, "tls_key": made.key}
    settings = settings_in(tmp_path, free_mb=1 << 40).model_copy(update={"http": Settings(http=http).http})
    probe = DatabaseProbe("host=127.0.0.1 port=1 dbname=none")
    found = find_warnings(settings, probe)
    assert sorted(found) == ["certificates", "disk", "quarantine"], "those of the database are missing"
    assert found["quarantine"].startswith("1 objects")
    assert found["certificates"].startswith("http.tls_certificate expires on ")
    assert "MiB are free" in found["disk"]
    Path(made.certificate).write_text("no certificate")
    assert find_warnings(settings, probe)["certificates"].startswith("http.tls_certificate cannot be read")
    registry = CollectorRegistry()
    registry.register(NodeMetricsCollector(settings, probe, {"disk": lambda: "It is full."}, receives=False))
    key = {"key": "http.tls_certificate"}
    assert registry.get_sample_value("glionode_certificate_expiry_timestamp_seconds", key) == 0
    assert registry.get_sample_value("glionode_quarantined_files") == 2
    assert registry.get_sample_value("glionode_check_ok", {"check": "disk"}) == 0


def test_a_warning_is_a_level_of_its_own() -> None:
    level = {
        name: Health(checks, warnings).as_json()["status"]
        for name, checks, warnings in (
            ("nothing", {"disk": None}, {}),
            ("warning", {"disk": None}, {"quarantine": "Look."}),
            ("failing", {"disk": "It is full."}, {"quarantine": "Look."}),
        )
    }
    assert level == {"nothing": "ok", "warning": "warning", "failing": "failing"}
    answer = Health({"disk": None}, {"quarantine": "Look."}).as_json()
    assert (answer["healthy"], answer["checks"], answer["warnings"]) == (True, {"disk": "ok"}, {"quarantine": "Look."})
