"""The outbox: one database row for each object and destination, with the state of its delivery.

The functions read and write rows within the caller's transaction. `plugin.delivery` sends the objects.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from psycopg.rows import class_row

from models.package import IntendedUse
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, Peer
from plugin.database.pool import Connection
from plugin.jobs.destination_pauses import try_now
from plugin.settings.check import may_receive, refusal
from plugin.settings.destinations import AnyDestination


class OutboxState(StrEnum):
    """The delivery state of an object at one destination."""

    QUEUED = "queued"
    SENT = "sent"
    """The destination answered with success. Where storage commitment is configured, this is not the final state."""
    COMMITTED = "committed"
    """The destination confirmed storage commitment."""
    FAILED = "failed"
    """The last attempt failed; it will be retried."""
    DEAD = "dead"
    """It failed for too long and is not retried."""
    HELD = "held"
    """An empty result that waits for a person to release it (`delivery.hold_empty`)."""
    REFUSED = "refused"
    """The settings do not allow sending it to this destination."""
    WITHDRAWN = "withdrawn"
    """It was not sent when images of its study took the place of others, or when they were analysed once more."""


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """A DICOM file of a result and its SOP instance UID."""

    sop_instance_uid: str
    path: Path
    sha256: str = ""
    """Digest of the file, in hexadecimal; empty where it is not known."""
    sop_class_uid: str | None = None
    """Known where it is read from a report."""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An object that is due to be sent to a destination."""

    sop_instance_uid: str
    path: str
    attempts: int
    created_at: datetime
    """When it was added or last retried by a user; the time limit for delivery counts from here."""
    job_key: str = ""
    sha256: str = ""
    """Digest of the file, in hexadecimal; empty where it is not known."""
    last_error: str | None = None
    alone: bool = False
    """Whether a connection broke off with it, so that it is sent alone, after all others."""


def put(
    connection: Connection,
    job_key: str,
    objects: Iterable[OutgoingObject],
    destinations: tuple[AnyDestination, ...],
    intended_use: IntendedUse,
    hold: bool = False,
) -> None:
    """Add a row for each object and destination, or renew the one that an earlier run of the study left.

    An object has the UID of an earlier one if it is the same file, made again by another attempt at the same analysis.
    Where a destination has it, it is not sent again. Where it still waits, the new file is sent in its place; what was
    given up, or may be sent now though it was refused, is queued again. With `hold`, what is not sent yet waits until
    it is released, also where an earlier attempt queued it. If a file with other content comes under a UID, against the
    rule, row and audit log say so.
    """
    there: Counter[str] = Counter()
    for item in objects:
        for destination in destinations:
            allowed = may_receive(destination, intended_use)
            row = connection.execute(
                _PUT,
                {
                    "sha256": item.sha256,
                    "differs": _DIFFERS,
                    "uid": item.sop_instance_uid,
                    "destination": destination.name,
                    "job": job_key,
                    "path": str(item.path),
                    "state": (OutboxState.HELD if hold else OutboxState.QUEUED) if allowed else OutboxState.REFUSED,
                    "error": (HELD_WHY if hold else None) if allowed else f"{refusal(destination)} {_THEN_RESEND}",
                    "use": intended_use.value,
                },
            ).fetchone()
            assert row is not None, "INSERT ... RETURNING returns a row"
            is_there, differs = row
            there[destination.name] += is_there
            if differs:
                uid = item.sop_instance_uid
                detail = f"{uid} to {destination.name}: {_DIFFERS}"
                audit_delivery(connection, AuditEvent.NOT_REPLACED, destination.name, uid, detail)
    for name, count in there.items():
        if count:
            detail = f"{count} objects are at {name} already; `glionode resend {job_key} --to {name}` sends them again"
            audit_log.record_for_job(connection, AuditEvent.NOT_SENT_AGAIN, job_key, detail)


_DIFFERS = (
    "it was made again with other content, though a UID stands for one content, so this is a fault of glionode; please "
    "report it. The destination keeps the object that it has under this UID; `glionode force STUDY --again` makes "
    "objects with UIDs of their own"
)
_THEN_RESEND = "Then `glionode resend JOB` sends it."
HELD_WHY = "nothing was found; look at the study, then send it with `glionode release JOB`"
_PUT = """
INSERT INTO glionode_outbox AS o
(sop_instance_uid, destination, job_key, path, state, last_error, sha256, file_sha256, intended_use)
VALUES (%(uid)s, %(destination)s, %(job)s, %(path)s, %(state)s, %(error)s, %(sha256)s, %(sha256)s, %(use)s)
ON CONFLICT (sop_instance_uid, destination) DO UPDATE SET
    job_key = excluded.job_key,
    path = excluded.path,
    file_sha256 = excluded.file_sha256,
    intended_use = excluded.intended_use,
    state = CASE WHEN o.state IN ('sent', 'committed') THEN o.state
        WHEN excluded.state IN ('refused', 'held') OR o.state IN ('dead', 'refused', 'withdrawn', 'held')
            THEN excluded.state
        ELSE o.state END,
    sha256 = CASE WHEN o.state IN ('sent', 'committed') THEN o.sha256 ELSE excluded.sha256 END,
    last_error = CASE
        WHEN o.state IN ('sent', 'committed') AND '' NOT IN (o.sha256, excluded.sha256)
            AND o.sha256 <> excluded.sha256 THEN %(differs)s
        WHEN o.state IN ('sent', 'committed') AND o.last_error = %(differs)s THEN NULL
        WHEN o.state IN ('sent', 'committed') THEN o.last_error
        WHEN excluded.state IN ('refused', 'held') OR o.state IN ('dead', 'refused', 'withdrawn', 'held')
            THEN excluded.last_error
        ELSE o.last_error END,
    attempts = CASE WHEN o.state IN ('dead', 'refused', 'withdrawn') THEN 0 ELSE o.attempts END,
    next_try = CASE WHEN o.state IN ('dead', 'refused', 'withdrawn') THEN now() ELSE o.next_try END,
    retried_at = CASE WHEN o.state IN ('dead', 'refused', 'withdrawn') THEN now() ELSE o.retried_at END
RETURNING state IN ('sent', 'committed'),
    state IN ('sent', 'committed') AND last_error IS NOT DISTINCT FROM %(differs)s
"""


def due(connection: Connection, destination: str, limit: int) -> tuple[OutboxEntry, ...]:
    """Return the objects that are due at a destination, oldest first; none while it pauses.

    An object with which a connection broke off is returned alone, and where no other is due. One whose file was lost is
    due when its job has made it again.
    """
    with connection.cursor(row_factory=class_row(OutboxEntry)) as cursor:
        cursor.execute(
            "SELECT sop_instance_uid, path, attempts, coalesce(retried_at, created_at) AS created_at, sha256, "
            "last_error, alone, job_key "
            "FROM glionode_outbox WHERE destination = %(destination)s AND state IN ('queued', 'failed') "
            "AND next_try <= now() AND NOT EXISTS "
            "(SELECT 1 FROM glionode_pauses p WHERE p.destination = %(destination)s AND p.next_try > now()) "
            "AND NOT EXISTS (SELECT 1 FROM glionode_jobs j WHERE j.key = job_key AND j.result_lost) "
            "ORDER BY alone, CASE WHEN alone THEN next_try END, glionode_outbox.created_at, sop_instance_uid "
            "LIMIT %(limit)s",
            {"destination": destination, "limit": limit},
        )
        found = cursor.fetchall()
    return tuple(each for each in found if not each.alone) or tuple(found[:1])


def wait_for_result(connection: Connection, job_key: str, why: str) -> None:
    """Say of the objects of a job that were not sent why they are not due."""
    connection.execute(
        "UPDATE glionode_outbox SET last_error = %s WHERE job_key = %s AND state IN ('queued', 'failed')",
        (why, job_key),
    )


def end_waiting(connection: Connection, job_key: str, state: OutboxState, why: str, but_below: str = "") -> None:
    """Give an end to the objects of a job that were not sent, except those whose files are in a folder."""
    rows = connection.execute(
        "UPDATE glionode_outbox SET state = %(state)s, last_error = %(why)s WHERE job_key = %(job)s "
        "AND state IN ('queued', 'failed', 'held') AND NOT (%(folder)s <> '' AND starts_with(path, %(folder)s || '/')) "
        "RETURNING sop_instance_uid, destination",
        {"state": state, "why": why, "job": job_key, "folder": but_below},
    ).fetchall()
    for uid, destination in rows:
        audit_log.record_for_job(connection, AuditEvent.GIVEN_UP, job_key, f"{uid} to {destination}: {why}")


def still_waiting(connection: Connection, destination: str, uids: Iterable[str]) -> frozenset[str]:
    """Return which of these objects still wait for a destination: none that was withdrawn or held meanwhile."""
    rows = connection.execute(
        "SELECT sop_instance_uid FROM glionode_outbox WHERE destination = %s AND sop_instance_uid = ANY(%s) "
        "AND state IN ('queued', 'failed')",
        (destination, list(uids)),
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def send_alone(connection: Connection, destination: str, uids: Iterable[str]) -> None:
    """Have objects sent one at a time, after all others: a connection broke off with one of them."""
    connection.execute(
        "UPDATE glionode_outbox SET alone = true WHERE destination = %s AND sop_instance_uid = ANY(%s)",
        (destination, list(uids)),
    )


def record_sent(
    connection: Connection,
    destination: str,
    uid: str,
    remark: str | None,
    peer: Peer | None = None,
    commit_as: str | None = None,
    sha256: str = "",
) -> None:
    """Record that the destination `peer` stored an object.

    With `commit_as`, the SOP class UID of the object, delivery is complete only after storage commitment. `sha256` is
    the digest of the file that was sent, for which a new run may have put another one meanwhile.
    """
    detail = f"{uid} to {destination}: {remark or 'stored with status 0x0000'}"
    audit_delivery(connection, AuditEvent.SENT, destination, uid, detail, peer)
    connection.execute(
        "UPDATE glionode_outbox SET state = 'sent', attempts = attempts + 1, sent_at = now(), alone = false, "
        "last_error = CASE WHEN '' NOT IN (sha256, %(sha256)s) AND sha256 <> %(sha256)s THEN %(differs)s "
        "ELSE %(remark)s END, sha256 = coalesce(nullif(%(sha256)s, ''), sha256), "
        "sop_class_uid = %(class)s, ask_at = CASE WHEN %(class)s::text IS NOT NULL THEN now() END, asks = 0 "
        "WHERE sop_instance_uid = %(uid)s AND destination = %(destination)s",
        {
            **{"remark": remark, "class": commit_as, "uid": uid, "destination": destination},
            **{"sha256": sha256, "differs": _DIFFERS},
        },
    )
    # A commitment result for an earlier transmission does not cover this one.
    connection.execute(
        "DELETE FROM glionode_commitments WHERE sop_instance_uid = %s AND destination = %s", (uid, destination)
    )


def record_failed(
    connection: Connection, destination: str, uid: str, error: str, again_in_s: float | None, alone: bool = False
) -> None:
    """Record a failed attempt; the next one is due after `again_in_s` seconds, or never if that is None.

    With `alone`, the connection broke off with the object, which goes alone from now on.
    """
    if again_in_s is None:
        audit_delivery(connection, AuditEvent.GIVEN_UP, destination, uid, f"{uid} to {destination}: {error}")
    connection.execute(
        "UPDATE glionode_outbox SET state = %s, attempts = attempts + 1, last_error = %s, alone = %s, "
        "next_try = now() + make_interval(secs => %s) "
        "WHERE sop_instance_uid = %s AND destination = %s AND state <> 'withdrawn'",
        (
            *(OutboxState.DEAD if again_in_s is None else OutboxState.FAILED, error, alone, again_in_s or 0.0),
            *(uid, destination),
        ),
    )


def withdraw(connection: Connection, study: str, reason: str) -> int:
    """Withdraw the objects of a study that were not sent; what is being sent gets through. Return their number."""
    done = connection.execute(
        "UPDATE glionode_outbox SET state = 'withdrawn', last_error = %s FROM glionode_jobs "
        "WHERE job_key = key AND study_instance_uid = %s AND glionode_outbox.state = ANY(%s)",
        (reason, study, [OutboxState.QUEUED, OutboxState.FAILED, OutboxState.DEAD, OutboxState.HELD]),
    )
    return done.rowcount


def withdraw_earlier(connection: Connection, job_key: str, uids: Sequence[str]) -> int:
    """Withdraw what was not sent of earlier analyses of the images of a job, whose result has the objects `uids`.

    Also of objects that an earlier attempt of the job itself made and that were lost, where it made others this time.
    Return the number of rows.
    """
    done = connection.execute(
        "UPDATE glionode_outbox o SET state = 'withdrawn', last_error = %(why)s "
        "FROM glionode_jobs mine, glionode_jobs earlier WHERE mine.key = %(key)s AND o.job_key = earlier.key "
        "AND earlier.study_instance_uid = mine.study_instance_uid "
        "AND earlier.instances_sha256 = mine.instances_sha256 AND earlier.created_at <= mine.created_at "
        "AND NOT o.sop_instance_uid = ANY(%(uids)s) AND o.state = ANY(%(states)s)",
        {
            "why": "a later analysis of the same images was complete before it was sent",
            "key": job_key,
            "uids": list(uids),
            "states": [OutboxState.QUEUED, OutboxState.FAILED, OutboxState.DEAD, OutboxState.HELD],
        },
    )
    return done.rowcount


def cancel_commitment_requests(connection: Connection, destination: str) -> None:
    """Treat stored objects as delivered, because storage commitment is not (or no longer) configured."""
    connection.execute(
        "UPDATE glionode_outbox SET ask_at = NULL WHERE destination = %s AND ask_at IS NOT NULL", (destination,)
    )
    connection.execute("DELETE FROM glionode_commitments WHERE destination = %s", (destination,))


def retry(connection: Connection, states: Iterable[OutboxState], job_key: str | None) -> int:
    """Queue the objects in one of these states again, of one job or of all (None). Return the number of rows.

    Their destinations are tried now, also those that pause.
    """
    rows = connection.execute(
        "UPDATE glionode_outbox SET state = 'queued', attempts = 0, next_try = now(), retried_at = now() "
        "WHERE state = ANY(%(states)s) AND (%(job)s::text IS NULL OR job_key = %(job)s) RETURNING destination",
        {"states": list(states), "job": job_key},
    ).fetchall()
    try_now(connection, {str(row[0]) for row in rows})
    return len(rows)


def resend(connection: Connection, uids: Sequence[str], destinations: Sequence[str]) -> None:
    """Queue objects again for destinations that received them and lost them."""
    rows = connection.execute(
        "SELECT destination, sop_instance_uid FROM glionode_outbox "
        "WHERE sop_instance_uid = ANY(%s) AND destination = ANY(%s) AND state IN ('sent', 'committed')",
        (list(uids), list(destinations)),
    ).fetchall()
    for destination in destinations:
        send_again(connection, [uid for name, uid in rows if name == destination], destination)


DIGEST_OF_FILE = (
    "CASE WHEN file_sha256 <> '' THEN file_sha256 "
    "WHEN starts_with(last_error, 'it was made again with other content') THEN '' ELSE sha256 END"
)
"""The digest of the file at `path`, in SQL: in a row of an older version, `sha256` is that of what was sent."""


def send_again(connection: Connection, uids: Sequence[str], destination: str) -> None:
    """Queue objects for a destination as if it never had them, with the files that are there now."""
    connection.execute(
        "UPDATE glionode_outbox SET state = 'queued', attempts = 0, next_try = now(), retried_at = now(), "
        f"sha256 = {DIGEST_OF_FILE}, "
        "last_error = NULL, ask_at = NULL, asks = 0, committed_at = NULL "
        "WHERE sop_instance_uid = ANY(%s) AND destination = %s",
        (list(uids), destination),
    )
    connection.execute(
        "DELETE FROM glionode_commitments WHERE sop_instance_uid = ANY(%s) AND destination = %s",
        (list(uids), destination),
    )


def audit_delivery(
    connection: Connection,
    what: AuditEvent,
    destination: str,
    uid: str,
    detail: str,
    peer: Peer | None = None,
) -> None:
    """Add an audit entry about an object and a destination."""
    row = connection.execute(
        "SELECT job_key FROM glionode_outbox WHERE sop_instance_uid = %s AND destination = %s", (uid, destination)
    ).fetchone()
    if row is not None:
        audit_log.record_for_job(connection, what, row[0], detail, peer)
