"""Read, lock and change the database rows of jobs. Each function is one step of the caller's transaction."""

from typing import Any

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.pool import Connection
from plugin.jobs import outbox
from plugin.jobs.job import Action, Job, JobSource, JobState, Record, Requeue, Restart, Start
from plugin.jobs.outbox import OutboxState

COLUMNS = (
    "key, study_instance_uid, instances_sha256, model_sha256, state, attempts, image_count, trouble, urgent, source, "
    "replacements, repetition, losses, result_lost"
)
WITHOUT_RESULT = frozenset(
    {JobState.QUEUED, JobState.NOT_ELIGIBLE, JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED}
)
"""States in which any newer job supersedes a job. A job with a result is superseded only by another result."""

_AFTER_A_RESULT = frozenset({JobState.NOT_ELIGIBLE, JobState.FAILED, JobState.CANCELLED})
"""Outcomes of a job that was run again in which what it had before stays; its rows in the outbox are not touched."""
_RESULT_KEPT = "The result of an earlier run of this job is kept, and what waits of it is still sent."


def write(connection: Connection, job: Job, action: Action, results_path: str | None = None) -> None:
    """Carry out an action on a job. A job that becomes segmented supersedes the earlier jobs of its study.

    A job that is run again keeps the result of its earlier run until it has a new one.
    """
    match action:
        case Start(attempt):
            connection.execute(
                # A later attempt keeps the start of the analysis, which enters the UIDs of the objects.
                "UPDATE glionode_jobs SET state = %s, attempts = %s, started_at = now(), "
                "analysis_started_at = coalesce(analysis_started_at, now()) WHERE key = %s",
                (JobState.RUNNING, attempt, job.key),
            )
        case Requeue():
            connection.execute("UPDATE glionode_jobs SET state = %s WHERE key = %s", (JobState.QUEUED, job.key))
        case Restart():
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, attempts = 0, reason = NULL, trouble = NULL, "
                "results_path = CASE WHEN has_result THEN results_path END, "
                "losses = 0, queued_at = now(), started_at = NULL, finished_at = NULL, same_as = NULL WHERE key = %s",
                (JobState.QUEUED, job.key),
            )
        case Record(state, reason):
            row = connection.execute(
                "UPDATE glionode_jobs SET state = %(state)s, reason = %(reason)s, finished_at = now(), "
                "has_result = %(segmented)s OR (has_result AND results_path IS NOT NULL), "
                "results_path = CASE WHEN has_result AND NOT %(segmented)s "
                "THEN coalesce(results_path, %(path)s) ELSE %(path)s END WHERE key = %(key)s "
                "RETURNING has_result AND results_path IS DISTINCT FROM %(path)s",
                {
                    "state": state,
                    "reason": reason,
                    "segmented": state is JobState.SEGMENTED,
                    "path": results_path,
                    "key": job.key,
                },
            ).fetchone()
            if row == (True,) and state in _AFTER_A_RESULT:
                reason = f"{reason} {_RESULT_KEPT}" if reason else _RESULT_KEPT
                connection.execute("UPDATE glionode_jobs SET reason = %s WHERE key = %s", (reason, job.key))
            if job.result_lost:
                _end_loss(connection, job, state, reason, results_path)
            if state is JobState.SEGMENTED:
                supersede(connection, job, frozenset(JobState))
            detail = f"{state}: {reason}" if reason else state.value
            audit_log.record(connection, AuditEvent.ENDED, AuditSubject(job.study_instance_uid, job.key), detail)


def record_loss(connection: Connection, job: Job, what: str) -> None:
    """Record that a file of a job's result is lost: `what`, a clause. Its deliveries wait until the job has ended."""
    connection.execute(
        "UPDATE glionode_jobs SET result_lost = true, losses = %s, reason = %s, has_result = false, "
        "results_path = NULL WHERE key = %s",
        (job.losses + 1, f"Its result was lost and is made again: {what}.", job.key),
    )
    outbox.wait_for_result(connection, job.key, f"{what}; the job runs again, and this waits for its result")
    audit_log.record(connection, AuditEvent.LOST, AuditSubject(job.study_instance_uid, job.key), what)


def _end_loss(connection: Connection, job: Job, state: JobState, reason: str | None, results_path: str | None) -> None:
    """Let the deliveries of a job whose result was lost go on, or say of each what became of it."""
    connection.execute("UPDATE glionode_jobs SET result_lost = false WHERE key = %s", (job.key,))
    match state:
        case JobState.SEGMENTED:
            why = "its file was lost, and the job made other objects when it ran again"
            outbox.end_waiting(connection, job.key, OutboxState.WITHDRAWN, why, results_path or "")
        case JobState.SUPERSEDED:
            why = "its file was lost, and the study has other images by now, for which there is another job"
            outbox.end_waiting(connection, job.key, OutboxState.WITHDRAWN, why)
        case _:
            why = f"its file was lost and could not be made again, the job is {state}: {reason or ''}".rstrip(": ")
            outbox.end_waiting(connection, job.key, OutboxState.DEAD, why)


def supersede(connection: Connection, job: Job, states: frozenset[JobState]) -> None:
    """Mark the study's earlier jobs in these states as superseded by `job`, which need not be in the database yet."""
    connection.execute(
        "UPDATE glionode_jobs SET superseded_by = %(key)s WHERE study_instance_uid = %(study)s AND key <> %(key)s "
        "AND superseded_by IS NULL AND state = ANY(%(states)s) "
        "AND created_at <= coalesce((SELECT created_at FROM glionode_jobs WHERE key = %(key)s), now())",
        {"key": job.key, "study": job.study_instance_uid, "states": list(states)},
    )


def lock(connection: Connection, key: str) -> Job | None:
    """Return a job, locked until the transaction ends; None if there is none."""
    return select(connection, "WHERE key = %s FOR UPDATE", (key,))


def select(connection: Connection, where: str, values: tuple[object, ...]) -> Job | None:
    """Return the first job that matches an SQL clause; None if there is none."""
    found = select_all(connection, where, values)
    return found[0] if found else None


def select_all(connection: Connection, where: str, values: tuple[object, ...]) -> list[Job]:
    """Return the jobs that match an SQL clause."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM glionode_jobs {where}", values).fetchall()
    names = COLUMNS.split(", ")
    return [_job(dict(zip(names, row, strict=True))) for row in rows]


def _job(row: dict[str, Any]) -> Job:
    return Job(**row | {"state": JobState(row["state"]), "source": JobSource(row["source"])})
