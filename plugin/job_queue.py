"""Jobs in the database: our rows say what became of a study, procrastinate's say who works on it.

Every change is one transaction: decide with `jobs.next_action`, write, commit. Knows no DICOM and runs no job.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, NoResult
from procrastinate.jobs import Status

from plugin import audit
from plugin.audit import About, Audited
from plugin.database import Database
from plugin.jobs import (
    OPEN,
    Action,
    Cancelled,
    Finished,
    Forced,
    Job,
    JobState,
    Leave,
    Outdated,
    Record,
    Requeue,
    Restart,
    Retried,
    Run,
    Taken,
    WorkerLost,
    next_action,
)
from plugin.stalled_jobs import end_entry, stalled_jobs

_LOG = logging.getLogger(__name__)

QUEUE = "segment"
TASK = "glionode.segment"
HEARTBEAT_S = 5.0
STALLED_AFTER_S = 20.0
"""Four missed heartbeats: a worker on another host is taken for dead."""

_COLUMNS = "key, study_instance_uid, instances_sha256, model_sha256, state, attempts, image_count, trouble"

Connection = psycopg.Connection[Any]
AlsoWrite = Callable[[Connection], None]
"""Something that is to be written in the same transaction."""


class JobQueue:
    """The jobs of a database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._app = App(connector=SyncPsycopgConnector(conninfo=database.url))
        self._app.open(database.pool)

    def add(self, job: Job, again: bool = False) -> bool:
        """Queue a job unless its study was queued or done with the same instances, whatever the model was then.

        With `again` only one that waits or runs is in its way. Waiting jobs with fewer instances of the study are
        superseded. Returns whether it was added.
        """
        in_its_way = OPEN if again else frozenset(JobState) - {JobState.SUPERSEDED}
        return self._insert(job, in_its_way, self._defer)

    def add_finished(self, job: Job, state: JobState, reason: str) -> bool:
        """Write down the outcome of a study that needs no worker. Returns whether it was added."""

        def finish(connection: Connection, job: Job) -> None:
            self._write(connection, job, Record(state, reason), None)

        return self._insert(job, frozenset(JobState) - {JobState.SUPERSEDED}, finish)

    def change(self, key: str, wish: Retried | Cancelled) -> Action:
        """Do what a person wants of a job; returns what was done, `Leave` where its state does not allow it."""
        with self._database.pool.connection() as connection:
            job = _locked(connection, key)
            if job is None:
                return Leave()
            action = next_action(job, wish)
            self._write(connection, job, action, None)
            if isinstance(action, Restart):
                self._defer(connection, job)
        return action

    def take(self, key: str) -> Job | None:
        """A worker begins: the job, or None where there is nothing left to do."""
        with self._database.pool.connection() as connection:
            job = _locked(connection, key)
            if job is None:
                return None
            action = next_action(job, Taken())
            self._write(connection, job, action, None)
            return job if isinstance(action, Run) else None

    def finish(self, job: Job, outcome: Finished, results_path: str | None, also: AlsoWrite) -> None:
        """Write down what a job came to, and `also` what follows from it, in one transaction. Idempotent."""
        with self._database.pool.connection() as connection:
            current = _locked(connection, job.key)
            if current is None:
                return
            action = next_action(current, outcome)
            if isinstance(action, Record):
                also(connection)
            self._write(connection, current, action, results_path)

    def outdate(self, job: Job) -> None:
        """More instances of the study came before its job was begun; the next look at the study adds a new one."""
        with self._database.pool.connection() as connection:
            current = _locked(connection, job.key)
            if current is not None:
                self._write(connection, current, next_action(current, Outdated()), None)

    def peek(self, key: str) -> Job | None:
        """The job as it stands; None where there is none."""
        with self._database.pool.connection() as connection:
            return _select(connection, "WHERE key = %s", (key,))

    def note_trouble(self, key: str, trouble: str) -> None:
        """Remember of a job why its worker is ended, in case that it is not tried again."""
        with self._database.pool.connection() as connection:
            connection.execute("UPDATE glionode_jobs SET trouble = %s WHERE key = %s", (trouble, key))

    def release(self) -> int:
        """Put back what an orderly stop interrupted; it does not count as an attempt. Returns how many jobs.

        For an embedded database whose only worker has just been ended.
        """
        with self._database.pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET attempts = greatest(attempts - 1, 0) WHERE state = %s", (JobState.RUNNING,)
            )
        return self.take_over(0.0)

    def take_over(self, seconds_since_heartbeat: float) -> int:
        """Put back the jobs of workers that are gone, and those that the queue lost. Returns how many.

        A worker is gone when its last heartbeat is older than that; 0 says that no worker is alive.
        """
        stalled = stalled_jobs(self._database.url, QUEUE, seconds_since_heartbeat)
        count = sum(self._lost(key, queue_id) for key, queue_id in stalled)
        with self._database.pool.connection() as connection:
            rows = connection.execute(
                "SELECT key, queue_id FROM glionode_jobs WHERE state = ANY(%s)", (list(OPEN),)
            ).fetchall()
        return count + sum(self._lost(key, None) for key, queue_id in rows if not self._in_queue(queue_id))

    def _insert(self, job: Job, in_its_way: frozenset[JobState], then: Callable[[Connection, Job], None]) -> bool:
        with self._database.pool.connection() as connection:
            # Two listeners may look at one study at the same time.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (job.study_instance_uid,))
            known = connection.execute(
                "SELECT 1 FROM glionode_jobs "
                "WHERE study_instance_uid = %s AND instances_sha256 = %s AND state = ANY(%s)",
                (job.study_instance_uid, job.instances_sha256, list(in_its_way)),
            ).fetchone()
            if known:
                return False
            for older in _select_all(connection, "WHERE study_instance_uid = %s FOR UPDATE", (job.study_instance_uid,)):
                self._write(connection, older, next_action(older, Outdated()), None)
            connection.execute(
                "UPDATE glionode_jobs SET superseded_by = %s WHERE study_instance_uid = %s AND superseded_by IS NULL",
                (job.key, job.study_instance_uid),
            )
            connection.execute(
                "INSERT INTO glionode_jobs "
                "(key, study_instance_uid, instances_sha256, model_sha256, image_count, state) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO UPDATE "
                "SET superseded_by = NULL, purged_at = NULL",
                (
                    *(job.key, job.study_instance_uid, job.instances_sha256, job.model_sha256),
                    *(job.image_count, JobState.QUEUED),
                ),
            )
            current = _locked(connection, job.key)
            assert current is not None, "it was just put there"
            self._write(connection, current, next_action(current, Forced()), None)
            then(connection, job)
        return True

    def _defer(self, connection: Connection, job: Job) -> None:
        # lock: two jobs of one study never run at a time; queueing lock: a job never waits twice.
        deferrer = self._app.configure_task(
            TASK, queue=QUEUE, lock=job.study_instance_uid, queueing_lock=job.key, connection=connection
        )
        queue_id: int | None
        try:
            with connection.transaction():
                queue_id = deferrer.defer(key=job.key)
        except AlreadyEnqueued:
            waiting = self._app.job_manager.list_jobs(queueing_lock=job.key, status=Status.TODO.value)
            queue_id = next((entry.id for entry in waiting), None)
        connection.execute("UPDATE glionode_jobs SET queue_id = %s WHERE key = %s", (queue_id, job.key))

    def _lost(self, key: str, queue_id: int | None) -> bool:
        """Act on the loss of a job's worker; `queue_id` is the queue's entry that it had in hand, if there is one."""
        with self._database.pool.connection() as connection:
            job = _locked(connection, key)
            if queue_id is not None and self._waits_anew(connection, key, queue_id):
                job = None
            action = next_action(job, WorkerLost()) if job is not None else Leave()
            if job is not None:
                self._write(connection, job, action, None)
                if isinstance(action, Requeue) and queue_id is None:
                    self._defer(connection, job)
        if queue_id is not None and isinstance(action, Requeue):
            self._app.job_manager.retry_job_by_id(queue_id, retry_at=datetime.now(UTC))
        elif queue_id is not None:
            end_entry(self._database.url, queue_id)
        if isinstance(action, Requeue):
            _LOG.warning("job %s lost its worker and was queued again", key)
        elif isinstance(action, Record):
            _LOG.error("job %s is left alone: %s", key, action.reason)
        return isinstance(action, Requeue)

    def _waits_anew(self, connection: Connection, key: str, queue_id: int) -> bool:
        """Whether a person cancelled and retried the job, so that it has another entry than its lost worker's."""
        row = connection.execute("SELECT queue_id FROM glionode_jobs WHERE key = %s", (key,)).fetchone()
        return row is not None and row[0] != queue_id and self._in_queue(row[0])

    def _in_queue(self, queue_id: int | None) -> bool:
        if queue_id is None:
            return False
        try:
            return self._app.job_manager.get_job_status(queue_id) in (Status.TODO, Status.DOING)
        except NoResult:
            return False

    def _write(self, connection: Connection, job: Job, action: Action, results_path: str | None) -> None:
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
                    "results_path = NULL, started_at = NULL, finished_at = NULL WHERE key = %s",
                    (JobState.QUEUED, job.key),
                )
            case Record(state, reason):
                connection.execute(
                    "UPDATE glionode_jobs SET state = %s, reason = %s, results_path = %s, finished_at = now() "
                    "WHERE key = %s",
                    (state, reason, results_path, job.key),
                )
                detail = f"{state}: {reason}" if reason else state.value
                audit.record(connection, Audited.ENDED, About(job.study_instance_uid, job.key), detail)


def _locked(connection: Connection, key: str) -> Job | None:
    return _select(connection, "WHERE key = %s FOR UPDATE", (key,))


def _select(connection: Connection, where: str, values: tuple[object, ...]) -> Job | None:
    found = _select_all(connection, where, values)
    return found[0] if found else None


def _select_all(connection: Connection, where: str, values: tuple[object, ...]) -> list[Job]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM glionode_jobs {where}", values).fetchall()
    return [
        Job(key, study, instances, model, JobState(state), attempts, count, trouble)
        for key, study, instances, model, state, attempts, count, trouble in rows
    ]
