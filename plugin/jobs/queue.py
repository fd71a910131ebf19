"""The job queue: each job has a row in `glionode_jobs` and, while it is open, an entry in procrastinate's queue.

Every change is one transaction: decide with `job.next_action`, write, commit.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from plugin.archive.store import InstanceKey
from plugin.database import audit_log, instance_rows
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.instance_rows import InstanceRow
from plugin.database.pool import Connection, Database
from plugin.jobs import outbox, unadopted
from plugin.jobs.job import (
    MAX_LOSSES,
    OPEN,
    Action,
    Cancelled,
    Finished,
    Forced,
    Hung,
    Ignore,
    Job,
    JobSource,
    JobState,
    Outdated,
    Record,
    Requeue,
    Restart,
    ResultLost,
    Retried,
    Start,
    Started,
    WorkerLost,
    next_action,
    repeated,
)
from plugin.jobs.prior_results import PriorResults, read_prior_results
from plugin.jobs.procrastinate_queue import ProcrastinateQueue
from plugin.jobs.rows import WITHOUT_RESULT, lock, record_loss, select, select_all, supersede, write

_LOG = logging.getLogger(__name__)

SWEEP_LOCK = 0x676C6973
""""glis": advisory lock of the one process that requeues stalled jobs."""

_REPLACED = "images of the study took the place of others"

AlsoWrite = Callable[[Connection], None]
"""Writes more rows in the same transaction."""


class JobQueue:
    """The jobs of a database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries = ProcrastinateQueue(database)

    def add(self, job: Job, again: bool = False) -> Job | None:
        """Queue a job unless the study already has one with the same instances, whatever its model.

        Return the job as it was added; None if it was prevented, see `standing`, or if the study waits for
        `glionode adopt`. Where these instances were analysed
        before, it is a job of its own with another key: its result supersedes the earlier one.

        Images that were purged and came again are analysed again, because nobody knows any more how they were.

        With `again`, only an open job prevents it, and no earlier result of the study counts as current. Other queued
        jobs of the study are superseded; where images took the place of others since the last one, its results are,
        too, and what waits of them is not sent. If the job is urgent and prevented, the open jobs of the study become
        urgent.
        """
        preventing = OPEN if again else frozenset(JobState) - {JobState.SUPERSEDED}
        return self._insert(job, preventing, self._defer, forget_results=again)

    def standing(self, job: Job) -> Job:
        """Return the newest job of the same study and instances that was not superseded; `job` itself without one."""
        where = (
            "WHERE study_instance_uid = %s AND instances_sha256 = %s AND state <> %s "
            "ORDER BY created_at DESC, repetition DESC LIMIT 1"
        )
        values = (job.study_instance_uid, job.instances_sha256, JobState.SUPERSEDED)
        with self._database.pool.connection() as connection:
            return select(connection, where, values) or job

    def add_finished(self, job: Job, state: JobState, reason: str) -> Job | None:
        """Record the outcome of a study that needs no worker. Return the job as it was added, None if it was not."""

        def finish(connection: Connection, job: Job) -> None:
            write(connection, job, Record(state, reason))

        return self._insert(job, frozenset(JobState) - {JobState.SUPERSEDED}, finish)

    def apply_request(self, key: str, request: Retried | Cancelled) -> Action:
        """Apply a user's request to a job. Return the action: `Ignore` if the job's state does not allow it."""
        with self._database.pool.connection() as connection:
            job = lock(connection, key)
            if job is None:
                return Ignore()
            action = next_action(job, request)
            write(connection, job, action)
            if isinstance(action, Restart):
                self._defer(connection, job)
        return action

    def start(self, key: str) -> Job | None:
        """Mark a job as running. Return it as it was before; None if it must not run (any more)."""
        with self._database.pool.connection() as connection:
            job = lock(connection, key)
            if job is None or unadopted.is_held(connection, job.study_instance_uid):
                return None
            action = next_action(job, Started())
            write(connection, job, action)
            return job if isinstance(action, Start) else None

    def finish(self, job: Job, outcome: Finished, results_path: str | None, also: AlsoWrite) -> None:
        """Record the outcome of a job, and what `also` writes, in one transaction. Idempotent."""
        with self._database.pool.connection() as connection:
            current = lock(connection, job.key)
            if current is None:
                return
            action = next_action(current, outcome)
            if isinstance(action, Record):
                also(connection)
            write(connection, current, action, results_path)

    def put_back(self, key: str, path: Path, what: str) -> str | None:
        """Have a job run again because the file `path` of its result is lost: `what`, a clause.

        Its deliveries wait for the new result. Return None if so, or if nothing waits for that file any more; else why
        the job does not run again, a clause that says what to do.
        """
        with self._database.pool.connection() as connection:
            job = lock(connection, key)
            if job is None or job.result_lost:
                return None
            row = connection.execute(
                "SELECT purged_at, results_path, EXISTS (SELECT 1 FROM glionode_outbox WHERE job_key = key "
                "AND path = %s AND state IN ('queued', 'failed', 'held')) FROM glionode_jobs WHERE key = %s",
                (str(path), key),
            ).fetchone()
            assert row is not None, "it is locked"
            purged_at, folder, is_awaited = row
            is_current = folder == str(path.parent)
            if not is_current and not is_awaited:
                return None
            if purged_at is not None:
                return "its study was purged; send the study again"
            if not is_current:
                return "its job has another result by now, without it"
            if job.losses >= MAX_LOSSES:
                return (
                    f"its result was lost {job.losses} times before, so check the disk; then `glionode force STUDY "
                    "--again` makes it once more"
                )
            action = next_action(job, ResultLost())
            write(connection, job, action)
            record_loss(connection, job, what)
            if isinstance(action, Restart):
                self._defer(connection, job)
        _LOG.warning(
            "job %s: %s; it runs again (%d of %d times), and its deliveries wait for it",
            *(key, what, job.losses + 1, MAX_LOSSES),
        )
        return None

    def mark_outdated(self, job: Job) -> None:
        """Supersede a queued job whose study has other instances by now."""
        with self._database.pool.connection() as connection:
            current = lock(connection, job.key)
            if current is not None:
                write(connection, current, next_action(current, Outdated()))

    def prior_results(self, job: Job) -> PriorResults:
        """Return the results of the jobs that came before `job`."""
        with self._database.pool.connection() as connection:
            return read_prior_results(connection, job)

    def received(self, job: Job) -> dict[InstanceKey, InstanceRow]:
        """Return what the index of the archive says of a job's study: a row for each received instance."""
        with self._database.pool.connection() as connection:
            return instance_rows.of_study(connection, job.study_instance_uid)

    def held_studies(self) -> frozenset[str]:
        """Return the studies that wait for `glionode adopt`; no job of them is added or started."""
        with self._database.pool.connection() as connection:
            return frozenset(unadopted.held_studies(connection))

    def find(self, key: str) -> Job | None:
        """Return the job with this key; None if there is none."""
        with self._database.pool.connection() as connection:
            return select(connection, "WHERE key = %s", (key,))

    def newest_job(self, study_instance_uid: str, states: frozenset[JobState]) -> Job | None:
        """Return the study's newest job in one of these states; None if there is none."""
        where = "WHERE study_instance_uid = %s AND state = ANY(%s) ORDER BY created_at DESC, key LIMIT 1"
        with self._database.pool.connection() as connection:
            return select(connection, where, (study_instance_uid, list(states)))

    def ping(self) -> None:
        """Return when the database has answered. Raises psycopg.Error."""
        with self._database.pool.connection() as connection:
            connection.execute("SELECT 1")

    def record_trouble(self, key: str, trouble: str) -> None:
        """Store why the worker of a job is ended, for the reason of failure if the job is not tried again."""
        with self._database.pool.connection() as connection:
            connection.execute("UPDATE glionode_jobs SET trouble = %s WHERE key = %s", (trouble, key))

    def fail_hung(self, key: str, reason: str) -> None:
        """Record that a job made its worker hang, which has been ended. It is not tried again by itself."""
        with self._database.pool.connection() as connection:
            job = lock(connection, key)
            if job is not None:
                write(connection, job, next_action(job, Hung(reason)))

    def postpone(self, key: str, attempt: int) -> None:
        """Return a running job to the queue without counting its attempt.

        For a job whose images or results cannot be transferred now, or whose worker has to end. `requeue_stalled` lets
        another worker fetch it once its worker has let go of it. Do nothing if the job is at another attempt: a worker
        that lost its connection may come back while another one runs the job.
        """
        with self._database.pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET state = %s, attempts = attempts - 1 "
                "WHERE key = %s AND state = %s AND attempts = %s",
                (JobState.QUEUED, key, JobState.RUNNING, attempt),
            )

    def postpone_running(self) -> int:
        """Return all running jobs to the queue without counting their attempts. Return their number.

        For an embedded database whose only worker has just ended.
        """
        with self._database.pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET attempts = greatest(attempts - 1, 0) WHERE state = %s", (JobState.RUNNING,)
            )
        return self.requeue_stalled(0.0)

    def requeue_stalled(self, seconds_since_heartbeat: float) -> int:
        """Queue the jobs of dead workers, and open jobs without an entry in the queue. Return their number.

        A worker counts as dead if its last heartbeat is older than this; with 0, all workers do. Do nothing while
        another process does the same: it might requeue a job twice, from a list that is out of date.
        """
        with self._database.pool.connection() as connection:
            # A process that loses its connection while it holds the lock must not keep it.
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = '20s'")
            row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (SWEEP_LOCK,)).fetchone()
            return self._requeue_stalled(seconds_since_heartbeat) if row and row[0] else 0

    def _requeue_stalled(self, seconds_since_heartbeat: float) -> int:
        stalled = self._entries.stalled(seconds_since_heartbeat)
        count = sum(self._requeue_lost(key, entry_id) for key, entry_id in stalled)
        with self._database.pool.connection() as connection:
            rows = connection.execute(
                "SELECT key, queue_id FROM glionode_jobs j WHERE state = ANY(%s) AND NOT EXISTS "
                "(SELECT 1 FROM glionode_unadopted u WHERE u.study_instance_uid = j.study_instance_uid)",
                (list(OPEN),),
            ).fetchall()
        without_entry = [key for key, entry_id in rows if not self._entries.contains(entry_id)]
        return count + sum(self._requeue_lost(key, None) for key in without_entry)

    def _requeue_lost(self, key: str, entry_id: int | None) -> bool:
        """Handle the loss of a job's worker, which ran the queue entry `entry_id`, or of its entry (None)."""
        with self._database.pool.connection() as connection:
            job = lock(connection, key)
            if entry_id is not None and self._has_other_entry(connection, key, entry_id):
                job = None
            action = next_action(job, WorkerLost()) if job is not None else Ignore()
            if job is not None:
                write(connection, job, action)
                if isinstance(action, Requeue) and entry_id is None:
                    self._defer(connection, job)
        if entry_id is not None and isinstance(action, Requeue):
            self._entries.retry(entry_id, urgent=job is not None and job.urgent)
        elif entry_id is not None:
            self._entries.delete_running(entry_id)
        if isinstance(action, Requeue):
            _LOG.warning("the worker of job %s is gone; the job was queued again", key)
        elif isinstance(action, Record):
            _LOG.error("job %s failed: %s", key, action.reason)
        return isinstance(action, Requeue)

    def _has_other_entry(self, connection: Connection, key: str, entry_id: int) -> bool:
        """Return whether the job waits under another entry, because a user cancelled and retried it."""
        current = _entry_id(connection, key)
        return current != entry_id and self._entries.contains(current)

    def _insert(
        self,
        job: Job,
        preventing: frozenset[JobState],
        then: Callable[[Connection, Job], None],
        forget_results: bool = False,
    ) -> Job | None:
        """Insert a job and call `then`, unless a job in a `preventing` state has the same instances."""
        with self._database.pool.connection() as connection:
            # Two listeners may handle one study at the same time.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (job.study_instance_uid,))
            if unadopted.is_held(connection, job.study_instance_uid):
                return None
            known = connection.execute(
                "SELECT 1 FROM glionode_jobs "
                "WHERE study_instance_uid = %s AND instances_sha256 = %s AND state = ANY(%s) "
                "AND (purged_at IS NULL OR source <> %s)",
                (job.study_instance_uid, job.instances_sha256, list(preventing), JobSource.OWN),
            ).fetchone()
            if known:
                if job.urgent:
                    self._make_urgent(connection, job.study_instance_uid)
                return None
            job = _next_repetition(connection, job)
            replaced = connection.execute(
                "SELECT max(replacements) < %s FROM glionode_jobs WHERE study_instance_uid = %s AND purged_at IS NULL",
                (job.replacements, job.study_instance_uid),
            ).fetchone() == (True,)
            if forget_results or replaced:
                connection.execute(
                    "UPDATE glionode_jobs SET images_sha256 = NULL WHERE study_instance_uid = %s",
                    (job.study_instance_uid,),
                )
            for older in select_all(connection, "WHERE study_instance_uid = %s FOR UPDATE", (job.study_instance_uid,)):
                write(connection, older, next_action(older, Outdated()))
            # A job that was superseded before it ran counts from now on: it becomes the study's newest job. So does any
            # new one, also where the clock was set back since the last: jobs of a study are told apart by their times.
            connection.execute(
                "INSERT INTO glionode_jobs "
                "(key, study_instance_uid, instances_sha256, model_sha256, image_count, urgent, source, replacements, "
                "repetition, state, created_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, greatest(now(), (SELECT max(created_at) + "
                "interval '1 microsecond' FROM glionode_jobs WHERE study_instance_uid = %s))) "
                "ON CONFLICT (key) DO UPDATE "
                "SET superseded_by = NULL, purged_at = NULL, urgent = excluded.urgent, source = excluded.source, "
                "created_at = CASE glionode_jobs.state WHEN 'superseded' THEN excluded.created_at "
                "ELSE glionode_jobs.created_at END",
                (
                    *(job.key, job.study_instance_uid, job.instances_sha256, job.model_sha256),
                    *(job.image_count, job.urgent, job.source, job.replacements, job.repetition, JobState.QUEUED),
                    job.study_instance_uid,
                ),
            )
            # A result from images that others took the place of is over at once, whatever becomes of the new job.
            supersede(connection, job, frozenset(JobState) if replaced else WITHOUT_RESULT)
            if replaced:
                withdrawn = outbox.withdraw(connection, job.study_instance_uid, _REPLACED)
                detail = f"earlier results are superseded, and {withdrawn} deliveries withdrawn: {_REPLACED}"
                audit_log.record(
                    connection, AuditEvent.SUPERSEDED, AuditSubject(job.study_instance_uid, job.key), detail
                )
            current = lock(connection, job.key)
            assert current is not None, "it was just inserted"
            write(connection, current, next_action(current, Forced()))
            then(connection, job)
        return job

    def _make_urgent(self, connection: Connection, study_instance_uid: str) -> None:
        """Make the study's open jobs urgent. For a running job this matters only if it is queued again."""
        where = "WHERE study_instance_uid = %s AND NOT urgent AND state = ANY(%s) FOR UPDATE"
        for job in select_all(connection, where, (study_instance_uid, list(OPEN))):
            connection.execute("UPDATE glionode_jobs SET urgent = true WHERE key = %s", (job.key,))
            entry_id = _entry_id(connection, job.key)
            # Procrastinate cannot change the priority of a waiting entry, so a new entry replaces it.
            if entry_id and self._entries.cancel(connection, entry_id):
                self._defer(connection, replace(job, urgent=True))
                _LOG.info("job %s is urgent now", job.key)

    def _defer(self, connection: Connection, job: Job) -> None:
        entry_id = self._entries.defer(connection, job)
        connection.execute("UPDATE glionode_jobs SET queue_id = %s WHERE key = %s", (entry_id, job.key))


def _next_repetition(connection: Connection, job: Job) -> Job:
    """Return the job with a key that no analysis of its images with its model has had; an unbegun job keeps its key."""
    row = connection.execute(
        "SELECT coalesce(max(repetition) + 1, 0) FROM glionode_jobs WHERE study_instance_uid = %s "
        "AND instances_sha256 = %s AND model_sha256 = %s "
        "AND (analysis_started_at IS NOT NULL OR started_at IS NOT NULL OR has_result)",  # or run by an older version
        (job.study_instance_uid, job.instances_sha256, job.model_sha256),
    ).fetchone()
    assert row is not None, "an aggregate has a row"
    return repeated(job, row[0])


def _entry_id(connection: Connection, key: str) -> int | None:
    """Return the id of the job's latest entry in procrastinate's queue; None if it never had one."""
    row = connection.execute("SELECT queue_id FROM glionode_jobs WHERE key = %s", (key,)).fetchone()
    return row[0] if row is not None else None
