"""The rows of jobs: read, locked, and changed as was decided. Each function is one step of a caller's transaction."""

from typing import Any

import psycopg

from plugin.database import audit_log
from plugin.database.audit_log import About, Audited
from plugin.jobs.job import Action, Job, JobState, Record, Requeue, Restart, Run, Source

COLUMNS = (
    "key, study_instance_uid, instances_sha256, model_sha256, state, attempts, image_count, trouble, urgent, source"
)
WITHOUT_RESULT = frozenset(
    {JobState.QUEUED, JobState.NOT_ELIGIBLE, JobState.FAILED, JobState.SUPERSEDED, JobState.CANCELLED}
)
"""States in which any newer job takes a job's place; the place of a result is taken by a result alone."""

Connection = psycopg.Connection[Any]


def write(connection: Connection, job: Job, action: Action, results_path: str | None) -> None:
    """Do what was decided of a job; where it has a result, that supersedes the earlier ones of its study."""
    match action:
        case Run(attempt):
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, attempts = %s, started_at = now() WHERE key = %s",
                (JobState.RUNNING, attempt, job.key),
            )
        case Requeue():
            connection.execute("UPDATE glionode_jobs SET state = %s WHERE key = %s", (JobState.QUEUED, job.key))
        case Restart():
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, attempts = 0, reason = NULL, trouble = NULL, "
                "results_path = NULL, started_at = NULL, finished_at = NULL, same_as = NULL WHERE key = %s",
                (JobState.QUEUED, job.key),
            )
        case Record(state, reason):
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, reason = %s, results_path = %s, finished_at = now() "
                "WHERE key = %s",
                (state, reason, results_path, job.key),
            )
            if state is JobState.SEGMENTED:
                supersede(connection, job, frozenset(JobState))
            detail = f"{state}: {reason}" if reason else state.value
            audit_log.record(connection, Audited.ENDED, About(job.study_instance_uid, job.key), detail)


def supersede(connection: Connection, job: Job, states: frozenset[JobState]) -> None:
    """Say of the study's earlier jobs in these states that `job`, whether it is there yet or not, took their place."""
    connection.execute(
        "UPDATE glionode_jobs SET superseded_by = %(key)s WHERE study_instance_uid = %(study)s AND key <> %(key)s "
        "AND superseded_by IS NULL AND state = ANY(%(states)s) "
        "AND created_at <= coalesce((SELECT created_at FROM glionode_jobs WHERE key = %(key)s), now())",
        {"key": job.key, "study": job.study_instance_uid, "states": list(states)},
    )


def locked(connection: Connection, key: str) -> Job | None:
    """A job that nobody else changes until the transaction ends; None where there is none."""
    return select(connection, "WHERE key = %s FOR UPDATE", (key,))


def select(connection: Connection, where: str, values: tuple[object, ...]) -> Job | None:
    """The job that a clause finds; None where there is none."""
    found = select_all(connection, where, values)
    return found[0] if found else None


def select_all(connection: Connection, where: str, values: tuple[object, ...]) -> list[Job]:
    """The jobs that a clause finds."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM glionode_jobs {where}", values).fetchall()
    return [
        Job(key, study, instances, model, JobState(state), attempts, count, trouble, urgent, Source(source))
        for key, study, instances, model, state, attempts, count, trouble, urgent, source in rows
    ]
