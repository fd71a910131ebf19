"""The audit log has who sent a study, what was chosen, produced and sent, and no text from DICOM headers."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg

from models.package import IntendedUse
from plugin.database.audit_log import AuditEntry, Peer, read_entries
from plugin.database.pool import Database, database_url
from plugin.jobs import outbox
from plugin.jobs.job import new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queue import JobQueue
from plugin.listener.reception_audit import ReceptionAudit
from plugin.node.operations import cancel_job, retry_job
from plugin.settings.destinations import DestinationSettings
from tests.support.listener import MakeListener
from tests.support.node import (
    MARKER,
    NodeInThread,
    Pacs,
    config_of,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    wait_until,
)

MakeNode = Callable[..., NodeInThread]


def events_and_details(entries: tuple[AuditEntry, ...]) -> list[tuple[str, str]]:
    return [(entry.what, entry.detail) for entry in entries]


def test_a_study_is_audited_without_header_text(make_node: MakeNode, data_dir: Path, pacs: Pacs) -> None:
    node = make_node(destinations=[pacs.destination()]).start()
    study = new_study_uid()
    send(node.port, *(make_instance(study) for _ in range(3)))
    wait_until(lambda: len(pacs.received) == 2, "both results at the PACS")

    def written() -> str:
        with psycopg.connect(database_url(node.settings)) as connection:
            rows = connection.execute("SELECT row_to_json(glionode_audit)::text FROM glionode_audit").fetchall()
        return "\n".join(text for (text,) in rows)

    wait_until(lambda: written().count('"sent"') == 2, "both are audited")
    assert study in written()
    assert MARKER not in written()
    node.end()
    status, text = run(config_of(node, data_dir), "show", study, "--json")
    assert status == 0
    entries = json.loads(text)["audit"]
    assert [entry["what"] for entry in entries] == [
        *("received", "chosen", "produced", "produced", "ended"),
        *("sent", "sent"),
    ]
    assert (entries[0]["peer_ae_title"], entries[0]["peer_address"]) == ("SCANNER", "127.0.0.1")
    assert entries[0]["detail"] == "3 new instances"
    assert entries[1]["detail"] == f"T1CE: series {study}.1"
    assert {entry["detail"] for entry in entries[2:4]} == {f"{study}.99.1 (1.dcm)", f"{study}.99.2 (2.dcm)"}
    assert {entry["peer_address"] for entry in entries[5:]} == {f"127.0.0.1:{pacs.port}"}
    assert f"{study}.99.1 to pacs: stored with status 0x0000" in {entry["detail"] for entry in entries[5:]}
    assert MARKER not in text
    assert "received (SCANNER at 127.0.0.1): 3 new" in run(config_of(node, data_dir), "show", study)[1]


def test_operations_and_given_up_deliveries_are_audited(database: Database, queue: JobQueue) -> None:
    job = new_job(new_study_uid(), ["1"], "m")
    queue.add(job)
    cancel_job(database, job.key)
    retry_job(database, job.key)
    pacs = DestinationSettings(name="pacs", ae_title="PACS", host="h", port=1)
    with database.pool.connection() as connection:
        outbox.put(connection, job.key, [OutgoingObject("1.1", Path("x"))], (pacs,), IntendedUse.RESEARCH)
        outbox.record_failed(connection, "pacs", "1.1", "away", 1.0)
        outbox.record_failed(connection, "pacs", "1.1", "away", None)
        assert events_and_details(read_entries(connection, job.key, job.study_instance_uid)) == [
            ("ended", "cancelled"),
            ("ordered", "cancelled"),
            ("ordered", "retried, 0 deliveries"),
            ("given up", "1.1 to pacs: away"),
        ]
        assert read_entries(connection, "another", "1.9") == ()


def test_receptions_during_a_database_outage_are_audited_later(database: Database, queue: JobQueue) -> None:
    receptions, stop, study = ReceptionAudit(database.pool), threading.Event(), new_study_uid()
    stop.set()
    for _ in range(2):
        receptions.count(study, Peer("A", "::1"))
    receptions.count(study, Peer("B", "::1"))
    query(database, "ALTER TABLE glionode_audit RENAME TO away")
    receptions.run(stop)
    query(database, "ALTER TABLE away RENAME TO glionode_audit")
    receptions.count(study, Peer("A", "::1"))
    receptions.run(stop)
    receptions.run(stop)
    with database.pool.connection() as connection:
        entries = read_entries(connection, "", study)
    assert sorted((entry.peer_ae_title, entry.detail) for entry in entries) == [
        ("A", "3 new instances"),
        ("B", "1 new instances"),
    ]


def test_a_sender_is_recorded_by_address_and_ae_title(make_listener: MakeListener) -> None:
    listener = make_listener()
    study = new_study_uid()
    instance = make_instance(study)
    assert send(listener.port, instance, instance) == [0x0000] * 2
    assert listener.stored_studies == [study], "a repeated instance counts once"
    assert listener.senders == {Peer("SCANNER", "127.0.0.1")}
