"""Queue a job's result again: its rows in the outbox, and new rows for destinations that never had it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from psycopg.rows import class_row

from models.package import IntendedUse
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent
from plugin.database.pool import Connection
from plugin.jobs.destination_pauses import try_now
from plugin.jobs.outbox import DIGEST_OF_FILE, OutboxState, OutgoingObject, send_again


class Resending(StrEnum):
    """What becomes of a delivery (an object to a destination) that is to be sent again."""

    QUEUED = "queued"
    WAITING = "waiting"
    """It waits already."""
    HELD = "held"
    """It waits for a person to release it."""
    WITHDRAWN = "withdrawn"
    """It is never sent: images of its study took the place of others, or a later analysis came before it."""
    REFUSED = "refused"
    """The settings do not allow sending it to this destination."""


@dataclass(frozen=True, slots=True)
class Target:
    """A destination of objects that are sent again."""

    name: str
    allowed: bool
    """Whether the settings allow sending results of the model there."""
    create: bool
    """Whether it gets objects, too, that never were for it."""


@dataclass(frozen=True, slots=True)
class JobWithResult:
    """What decides whether the result of a job can be sent again."""

    key: str
    study_instance_uid: str
    state: str
    model_sha256: str
    results_path: str | None
    superseded_by: str | None
    purged_at: datetime | None


@dataclass(frozen=True, slots=True)
class MadeObjects:
    """The objects of a job's result, as the outbox has them."""

    objects: tuple[OutgoingObject, ...]
    destinations: frozenset[str]
    """All that they are or were for."""
    intended_use: IntendedUse | None
    """What the model is for; None in rows of an older version."""


def lock_job(connection: Connection, key: str) -> JobWithResult:
    """Return a job and lock its study until the transaction ends, so that it is not purged meanwhile."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext(study_instance_uid)) FROM glionode_jobs WHERE key = %s", (key,)
    )
    with connection.cursor(row_factory=class_row(JobWithResult)) as cursor:
        cursor.execute(
            "SELECT key, study_instance_uid, state, model_sha256, results_path, superseded_by, purged_at "
            "FROM glionode_jobs WHERE key = %s",
            (key,),
        )
        found = cursor.fetchone()
    assert found is not None, "rows of jobs are never removed"
    return found


def job_with_result(connection: Connection, key: str, study: str) -> str:
    """Return the key of the job whose result is meant: `key`, or for a `study` UID the job with its current result.

    For an unchanged job, that is the earlier job with the result that is still current.
    """
    if study:
        row = connection.execute(
            "SELECT key FROM glionode_jobs WHERE study_instance_uid = %s AND has_result AND superseded_by IS NULL "
            "ORDER BY created_at DESC, key LIMIT 1",
            (study,),
        ).fetchone()
        if row is not None:
            return str(row[0])
    row = connection.execute("SELECT coalesce(same_as, key) FROM glionode_jobs WHERE key = %s", (key,)).fetchone()
    return str(row[0]) if row is not None else key


def jobs_since(connection: Connection, since: datetime) -> tuple[str, ...]:
    """Return the jobs whose result was made or sent since a time, oldest first."""
    rows = connection.execute(
        "SELECT key FROM glionode_jobs j WHERE has_result AND (finished_at >= %(since)s OR EXISTS "
        "(SELECT 1 FROM glionode_outbox o WHERE o.job_key = j.key AND o.sent_at >= %(since)s)) "
        "ORDER BY created_at, key",
        {"since": since},
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def read_made_objects(connection: Connection, key: str) -> MadeObjects:
    """Return the objects of a job, none where they are for no destination."""
    rows = connection.execute(
        f"SELECT DISTINCT ON (sop_instance_uid) sop_instance_uid, path, {DIGEST_OF_FILE} AS digest "
        "FROM glionode_outbox WHERE job_key = %s ORDER BY sop_instance_uid, digest DESC",
        (key,),
    ).fetchall()
    also = connection.execute(
        "SELECT array_agg(DISTINCT destination), max(intended_use) FROM glionode_outbox WHERE job_key = %s", (key,)
    ).fetchone()
    names, use = also or (None, None)
    return MadeObjects(
        tuple(OutgoingObject(uid, Path(path), sha256) for uid, path, sha256 in rows),
        frozenset(names or ()),
        IntendedUse(use) if use else None,
    )


def resend_result(
    connection: Connection,
    key: str,
    objects: Sequence[OutgoingObject],
    targets: Sequence[Target],
    held: bool,
    intended_use: IntendedUse | None,
) -> Counter[tuple[str, Resending]]:
    """Queue objects of a job for destinations; count what becomes of each delivery, by destination.

    With `held`, an object that never was for a destination waits there until it is released, as does one that another
    destination waits for so.
    """
    states = {
        (uid, destination): OutboxState(state)
        for uid, destination, state in connection.execute(
            "SELECT sop_instance_uid, destination, state FROM glionode_outbox WHERE job_key = %s FOR UPDATE", (key,)
        ).fetchall()
    }
    withdrawn = {uid for (uid, _), state in states.items() if state is OutboxState.WITHDRAWN}
    unreleased = {uid for (uid, _), state in states.items() if state is OutboxState.HELD}
    counts: Counter[tuple[str, Resending]] = Counter()
    for target in targets:
        again: list[str] = []
        for each in objects:
            uid, state = each.sop_instance_uid, states.get((each.sop_instance_uid, target.name))
            if state is None and not target.create:
                continue
            outcome = _outcome(state, uid in withdrawn, held or uid in unreleased, target.allowed)
            counts[target.name, outcome] += 1
            if state is None and outcome in (Resending.QUEUED, Resending.HELD):
                _insert(connection, key, each, target.name, OutboxState(outcome.value), intended_use)
            elif outcome is Resending.QUEUED:
                again.append(uid)
        send_again(connection, again, target.name)
    queued = {name: count for (name, outcome), count in counts.items() if outcome is Resending.QUEUED}
    if queued:
        try_now(connection, queued)
        detail = ", ".join(f"{count} deliveries to {name}" for name, count in sorted(queued.items()))
        audit_log.record_for_job(connection, AuditEvent.ORDERED, key, f"sent again: {detail}")
    return counts


def _outcome(state: OutboxState | None, withdrawn: bool, held: bool, allowed: bool) -> Resending:
    if withdrawn:
        return Resending.WITHDRAWN
    if not allowed:
        return Resending.REFUSED
    if state is OutboxState.HELD or (state is None and held):
        return Resending.HELD
    return Resending.WAITING if state is OutboxState.QUEUED else Resending.QUEUED


def _insert(
    connection: Connection,
    key: str,
    made: OutgoingObject,
    destination: str,
    state: OutboxState,
    intended_use: IntendedUse | None,
) -> None:
    connection.execute(
        "INSERT INTO glionode_outbox "
        "(sop_instance_uid, destination, job_key, path, state, sha256, file_sha256, intended_use) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(made.sop_instance_uid, destination, key, str(made.path), state),
            *(made.sha256, made.sha256, intended_use.value if intended_use else None),
        ),
    )
