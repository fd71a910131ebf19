"""Jobs in the database: our rows say what became of a study, procrastinate's say who works on it.

Every change is one transaction: decide with `jobs.next_action`, write, commit. Knows no DICOM and runs no job.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, NoResult
from procrastinate.jobs import Status

from plugin.database.pool import Database
from plugin.jobs.job import (
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
from plugin.jobs.prior_results import PriorResults, read_past
from plugin.jobs.rows import WITHOUT_RESULT, locked, select, select_all, supersede, write
from plugin.jobs.stalled_jobs import end_entry, stalled_jobs

_LOG = logging.getLogger(__name__)

QUEUE = "segment"
TASK = "glionode.segment"
HEARTBEAT_S = 5.0
STALLED_AFTER_S = 20.0
"""Four missed heartbeats: a worker on another host is taken for dead."""

SWEEP_LOCK = 0x676C6973
""""glis": one process at a time looks for jobs that were lost."""

_URGENT_FIRST = {False: 0, True: 10}
"""Priority in procrastinate's queue, highest first; jobs of one priority go in the order in which they came."""

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

        With `again` only one that waits or runs is in its way, and no earlier result of the study stands. Other waiting
        jobs of the study are superseded. An urgent job that is in its own way goes first from now on. Returns whether
        it was added.
        """
        in_its_way = OPEN if again else frozenset(JobState) - {JobState.SUPERSEDED}
        return self._insert(job, in_its_way, self._defer, forget_results=again)

    def add_finished(self, job: Job, state: JobState, reason: str) -> bool:
        """Write down the outcome of a study that needs no worker. Returns whether it was added."""

        def finish(connection: Connection, job: Job) -> None:
            write(connection, job, Record(state, reason), None)

        return self._insert(job, frozenset(JobState) - {JobState.SUPERSEDED}, finish)

    def change(self, key: str, wish: Retried | Cancelled) -> Action:
        """Do what a person wants of a job; returns what was done, `Leave` where its state does not allow it."""
        with self._database.pool.connection() as connection:
            job = locked(connection, key)
            if job is None:
                return Leave()
            action = next_action(job, wish)
            write(connection, job, action, None)
            if isinstance(action, Restart):
                self._defer(connection, job)
        return action

    def take(self, key: str) -> Job | None:
        """A worker begins: the job, or None where there is nothing left to do."""
        with self._database.pool.connection() as connection:
            job = locked(connection, key)
            if job is None:
                return None
            action = next_action(job, Taken())
            write(connection, job, action, None)
            return job if isinstance(action, Run) else None

    def finish(self, job: Job, outcome: Finished, results_path: str | None, also: AlsoWrite) -> None:
        """Write down what a job came to, and `also` what follows from it, in one transaction. Idempotent."""
        with self._database.pool.connection() as connection:
            current = locked(connection, job.key)
            if current is None:
                return
            action = next_action(current, outcome)
            if isinstance(action, Record):
                also(connection)
            write(connection, current, action, results_path)

    def outdate(self, job: Job) -> None:
        """The study has other instances than before its job was begun; who looks at it next adds a new one."""
        with self._database.pool.connection() as connection:
            current = locked(connection, job.key)
            if current is not None:
                write(connection, current, next_action(current, Outdated()), None)

    def past(self, job: Job) -> PriorResults:
        """What came before a job of the database."""
        with self._database.pool.connection() as connection:
            return read_past(connection, job)

    def peek(self, key: str) -> Job | None:
        """The job as it stands; None where there is none."""
        with self._database.pool.connection() as connection:
            return select(connection, "WHERE key = %s", (key,))

    def newest(self, study_instance_uid: str, states: frozenset[JobState]) -> Job | None:
        """The study's newest job in one of these states; None where there is none."""
        where = "WHERE study_instance_uid = %s AND state = ANY(%s) ORDER BY created_at DESC, key LIMIT 1"
        with self._database.pool.connection() as connection:
            return select(connection, where, (study_instance_uid, list(states)))

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

        A worker is gone when its last heartbeat is older than that; 0 says that no worker is alive. Where another
        process is at it, nothing is done: two with one list would put back a job that the first of them has given away.
        """
        with self._database.pool.connection() as connection:
            # A process that is cut off while it holds the lock loses it.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = '20s'")
            row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (SWEEP_LOCK,)).fetchone()
            return self._take_over(seconds_since_heartbeat) if row and row[0] else 0

    def give_back(self, key: str, attempt: int) -> None:
        """What it takes to run a job is out of reach, or its worker has to end: it waits, and that was no attempt.

        The next `take_over` queues it when its worker has let go of it. Nothing is done where it is not at this attempt
        any more: a worker that was cut off may come back when another one has the job.
        """
        with self._database.pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, attempts = attempts - 1 "
                "WHERE key = %s AND state = %s AND attempts = %s",
                (JobState.QUEUED, key, JobState.RUNNING, attempt),
            )

    def _take_over(self, seconds_since_heartbeat: float) -> int:
        stalled = stalled_jobs(self._database.url, QUEUE, seconds_since_heartbeat)
        count = sum(self._lost(key, queue_id) for key, queue_id in stalled)
        with self._database.pool.connection() as connection:
            rows = connection.execute(
                "SELECT key, queue_id FROM glionode_jobs WHERE state = ANY(%s)", (list(OPEN),)
            ).fetchall()
        return count + sum(self._lost(key, None) for key, queue_id in rows if not self._in_queue(queue_id))

    def _insert(
        self,
        job: Job,
        in_its_way: frozenset[JobState],
        then: Callable[[Connection, Job], None],
        forget_results: bool = False,
    ) -> bool:
        with self._database.pool.connection() as connection:
            # Two listeners may look at one study at the same time.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (job.study_instance_uid,))
            known = connection.execute(
                "SELECT 1 FROM glionode_jobs "
                "WHERE study_instance_uid = %s AND instances_sha256 = %s AND state = ANY(%s)",
                (job.study_instance_uid, job.instances_sha256, list(in_its_way)),
            ).fetchone()
            if known:
                if job.urgent:
                    self._lift(connection, job.study_instance_uid)
                return False
            if forget_results:
                connection.execute(
                    "UPDATE glionode_jobs SET images_sha256 = NULL WHERE study_instance_uid = %s",
                    (job.study_instance_uid,),
                )
            for older in select_all(connection, "WHERE study_instance_uid = %s FOR UPDATE", (job.study_instance_uid,)):
                write(connection, older, next_action(older, Outdated()), None)
            # One that was never begun is as old as its second coming: it is the study's newest job then.
            connection.execute(
                "INSERT INTO glionode_jobs "
                "(key, study_instance_uid, instances_sha256, model_sha256, image_count, urgent, source, state) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO UPDATE "
                "SET superseded_by = NULL, purged_at = NULL, urgent = excluded.urgent, source = excluded.source, "
                "created_at = CASE glionode_jobs.state WHEN 'superseded' THEN now() ELSE glionode_jobs.created_at END",
                (
                    *(job.key, job.study_instance_uid, job.instances_sha256, job.model_sha256),
                    *(job.image_count, job.urgent, job.source, JobState.QUEUED),
                ),
            )
            supersede(connection, job, WITHOUT_RESULT)
            current = locked(connection, job.key)
            assert current is not None, "it was just put there"
            write(connection, current, next_action(current, Forced()), None)
            then(connection, job)
        return True

    def _lift(self, connection: Connection, study: str) -> None:
        """Let the study's open jobs go before those that are not urgent; one that runs, if it has to wait again."""
        where = "WHERE study_instance_uid = %s AND NOT urgent AND state = ANY(%s) FOR UPDATE"
        for job in select_all(connection, where, (study, list(OPEN))):
            connection.execute("UPDATE glionode_jobs SET urgent = true WHERE key = %s", (job.key,))
            row = connection.execute("SELECT queue_id FROM glionode_jobs WHERE key = %s", (job.key,)).fetchone()
            # procrastinate changes the priority of no entry that waits, so another takes its place.
            cancel = self._app.job_manager.cancel_job_by_id
            if row and row[0] and cancel(row[0], delete_job=True, connection=connection):
                self._defer(connection, replace(job, urgent=True))
                _LOG.info("job %s is urgent now", job.key)

    def _defer(self, connection: Connection, job: Job) -> None:
        # lock: two jobs of one study never run at a time; queueing lock: a job never waits twice.
        deferrer = self._app.configure_task(
            TASK,
            queue=QUEUE,
            lock=job.study_instance_uid,
            queueing_lock=job.key,
            priority=_URGENT_FIRST[job.urgent],
            connection=connection,
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
            job = locked(connection, key)
            if queue_id is not None and self._waits_anew(connection, key, queue_id):
                job = None
            action = next_action(job, WorkerLost()) if job is not None else Leave()
            if job is not None:
                write(connection, job, action, None)
                if isinstance(action, Requeue) and queue_id is None:
                    self._defer(connection, job)
        if queue_id is not None and isinstance(action, Requeue):
            priority = _URGENT_FIRST[job is not None and job.urgent]
            self._app.job_manager.retry_job_by_id(queue_id, retry_at=datetime.now(UTC), priority=priority)
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
