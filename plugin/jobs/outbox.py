"""What is to be sent where: a row per object and destination. Knows the database, not the network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row

from models.package import IntendedUse
from plugin.database import audit_log
from plugin.database.audit_log import Audited, Peer
from plugin.settings.check import may_receive, refusal
from plugin.settings.destinations import AnyDestination


class OutboxState(StrEnum):
    """Where an object stands on its way to a destination."""

    QUEUED = "queued"
    SENT = "sent"
    """The destination answered that it stored it; where it is asked for commitment, that is not the end."""
    COMMITTED = "committed"
    """The destination committed to keeping it."""
    FAILED = "failed"
    """It will be tried again."""
    DEAD = "dead"
    """It was tried for long enough."""
    REFUSED = "refused"
    """The settings do not allow it there."""


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """A DICOM file and the UID that it is known by."""

    sop_instance_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A row that is due."""

    sop_instance_uid: str
    path: str
    attempts: int
    created_at: datetime
    """When it was put there or last retried; the time to give it up counts from here."""


def put(
    connection: psycopg.Connection[Any],
    job_key: str,
    objects: Iterable[OutgoingObject],
    destinations: tuple[AnyDestination, ...],
    intended_use: IntendedUse,
) -> None:
    """Add an object for each destination. What is there already stays as it is: a result made twice is sent once."""
    for item in objects:
        for destination in destinations:
            allowed = may_receive(destination, intended_use)
            connection.execute(
                "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state, last_error) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (
                    item.sop_instance_uid,
                    destination.name,
                    job_key,
                    str(item.path),
                    OutboxState.QUEUED if allowed else OutboxState.REFUSED,
                    None if allowed else refusal(destination),
                ),
            )


def due(connection: psycopg.Connection[Any], destination: str, limit: int) -> tuple[OutboxEntry, ...]:
    """What is to be sent to a destination now, oldest first."""
    with connection.cursor(row_factory=class_row(OutboxEntry)) as cursor:
        cursor.execute(
            "SELECT sop_instance_uid, path, attempts, coalesce(retried_at, created_at) AS created_at "
            "FROM glionode_outbox WHERE destination = %s AND state IN ('queued', 'failed') AND next_try <= now() "
            "ORDER BY glionode_outbox.created_at, sop_instance_uid LIMIT %s",
            (destination, limit),
        )
        return tuple(cursor.fetchall())


def record_sent(
    connection: psycopg.Connection[Any],
    destination: str,
    uid: str,
    remark: str | None,
    peer: Peer | None = None,
    commit_as: str | None = None,
) -> None:
    """The destination has it; `peer` is where that was, for the audit.

    With `commit_as`, the object's SOP class, it is not delivered before the destination has committed to it.
    """
    detail = f"{uid} to {destination}: {remark or 'stored with status 0x0000'}"
    record_in_audit(connection, Audited.SENT, destination, uid, detail, peer)
    connection.execute(
        "UPDATE glionode_outbox SET state = 'sent', attempts = attempts + 1, sent_at = now(), last_error = %(remark)s, "
        "sop_class_uid = %(class)s, ask_at = CASE WHEN %(class)s::text IS NOT NULL THEN now() END, asks = 0 "
        "WHERE sop_instance_uid = %(uid)s AND destination = %(destination)s",
        {"remark": remark, "class": commit_as, "uid": uid, "destination": destination},
    )
    # A report about an earlier sending says nothing about this one.
    connection.execute(
        "DELETE FROM glionode_commitments WHERE sop_instance_uid = %s AND destination = %s", (uid, destination)
    )


def record_failed(
    connection: psycopg.Connection[Any], destination: str, uid: str, error: str, again_in_s: float | None
) -> None:
    """It did not get there; it is tried again after `again_in_s` seconds, or (None) never."""
    if again_in_s is None:
        record_in_audit(connection, Audited.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    connection.execute(
        "UPDATE glionode_outbox SET state = %s, attempts = attempts + 1, last_error = %s, "
        "next_try = now() + make_interval(secs => %s) WHERE sop_instance_uid = %s AND destination = %s",
        (OutboxState.DEAD if again_in_s is None else OutboxState.FAILED, error, again_in_s or 0.0, uid, destination),
    )


def make_due(connection: psycopg.Connection[Any], destination: str) -> None:
    """Let everything that waits for a destination be tried now: it answers again."""
    connection.execute(
        "UPDATE glionode_outbox SET next_try = now() WHERE destination = %s AND state = 'failed'", (destination,)
    )


def ask_no_more(connection: psycopg.Connection[Any], destination: str) -> None:
    """Count what a destination stored as delivered: its settings ask for no commitment, or not any more."""
    connection.execute(
        "UPDATE glionode_outbox SET ask_at = NULL WHERE destination = %s AND ask_at IS NOT NULL", (destination,)
    )
    connection.execute("DELETE FROM glionode_commitments WHERE destination = %s", (destination,))


def retry(connection: psycopg.Connection[Any], states: Iterable[OutboxState], job_key: str | None) -> int:
    """Queue what stands in one of these states anew, of one job or (None) of all. Returns how many rows."""
    done = connection.execute(
        "UPDATE glionode_outbox SET state = 'queued', attempts = 0, next_try = now(), retried_at = now() "
        "WHERE state = ANY(%(states)s) AND (%(job)s::text IS NULL OR job_key = %(job)s)",
        {"states": list(states), "job": job_key},
    )
    return done.rowcount


def delivered(connection: psycopg.Connection[Any], job_key: str, destinations: Sequence[str]) -> tuple[str, ...]:
    """What these destinations got of a job's result, or of the one that stands for it, and are not to get again yet.

    SOP instance UIDs.
    """
    rows = connection.execute(
        "SELECT sop_instance_uid FROM glionode_outbox o JOIN glionode_jobs j ON j.key = o.job_key "
        "WHERE j.purged_at IS NULL AND o.destination = ANY(%(destinations)s) "
        "AND j.key IN (%(job)s, (SELECT same_as FROM glionode_jobs WHERE key = %(job)s)) "
        "GROUP BY sop_instance_uid HAVING bool_or(o.state IN ('sent', 'committed')) "
        "AND NOT bool_or(o.state IN ('queued', 'failed')) ORDER BY sop_instance_uid",
        {"destinations": list(destinations), "job": job_key},
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def maker_of_all(connection: psycopg.Connection[Any], study: str, uids: Sequence[str]) -> str | None:
    """The key of the newest job of a study that made one of these, where its jobs made all of them; None otherwise."""
    made = connection.execute(
        "SELECT DISTINCT ON (sop_instance_uid) j.key, j.created_at FROM glionode_outbox o "
        "JOIN glionode_jobs j ON j.key = o.job_key "
        "WHERE j.study_instance_uid = %s AND sop_instance_uid = ANY(%s)",
        (study, list(uids)),
    ).fetchall()
    return str(max(made, key=lambda row: row[1])[0]) if uids and len(made) == len(set(uids)) else None


def send_again(connection: psycopg.Connection[Any], uids: Sequence[str], destinations: Sequence[str]) -> None:
    """Queue objects anew for destinations that had them and lost them."""
    connection.execute(
        "UPDATE glionode_outbox SET state = 'queued', attempts = 0, next_try = now(), retried_at = now() "
        "WHERE sop_instance_uid = ANY(%s) AND destination = ANY(%s) AND state IN ('sent', 'committed')",
        (list(uids), list(destinations)),
    )


def record_in_audit(
    connection: psycopg.Connection[Any],
    what: Audited,
    destination: str,
    uid: str,
    detail: str,
    peer: Peer | None = None,
) -> None:
    """Write down what happened to an object on its way to a destination."""
    row = connection.execute(
        "SELECT job_key FROM glionode_outbox WHERE sop_instance_uid = %s AND destination = %s", (uid, destination)
    ).fetchone()
    if row is not None:
        audit_log.record_of_job(connection, what, row[0], detail, peer)
