"""Procrastinate's queue, which says which worker runs which job. Each entry carries the key of a job.

`plugin.jobs.queue` keeps the rows that say what became of each study.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, NoResult
from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from plugin.database.pool import RECONNECT_S, Connection, Database
from plugin.jobs.job import Job

QUEUE = "segment"
TASK = "glionode.segment"
HEARTBEAT_S = 5.0
STALLED_AFTER_S = 20.0
"""A worker counts as dead after four missed heartbeats."""

_PRIORITY = {False: 0, True: 10}
"""Priority by urgency. The highest runs first; jobs of equal priority run in the order in which they were queued."""


class ProcrastinateQueue:
    """The entries of procrastinate's queue. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._url = database.url
        self._app = App(connector=SyncPsycopgConnector(conninfo=database.url))
        self._app.open(database.pool)

    def defer(self, connection: Connection, job: Job) -> int | None:
        """Add an entry within the caller's transaction; return the id of the job's entry that waits."""
        # lock: two jobs of one study never run at a time; queueing lock: a job never waits twice.
        deferrer = self._app.configure_task(
            TASK,
            queue=QUEUE,
            lock=job.study_instance_uid,
            queueing_lock=job.key,
            priority=_PRIORITY[job.urgent],
            connection=connection,
        )
        try:
            with connection.transaction():
                return deferrer.defer(key=job.key)
        except AlreadyEnqueued:
            waiting = self._app.job_manager.list_jobs(queueing_lock=job.key, status=Status.TODO.value)
            return next((entry.id for entry in waiting), None)

    def cancel(self, connection: Connection, entry_id: int) -> bool:
        """Delete an entry that waits, within the caller's transaction. Return whether it did wait."""
        return self._app.job_manager.cancel_job_by_id(entry_id, delete_job=True, connection=connection)

    def retry(self, entry_id: int, urgent: bool) -> None:
        """Let another worker fetch an entry whose worker is gone."""
        # A time that is over on the database's clock, too, which may be behind that of this host.
        long_ago = datetime.fromtimestamp(0, UTC)
        self._app.job_manager.retry_job_by_id(entry_id, retry_at=long_ago, priority=_PRIORITY[urgent])

    def contains(self, entry_id: int | None) -> bool:
        """Return whether an entry waits or runs."""
        if entry_id is None:
            return False
        try:
            return self._app.job_manager.get_job_status(entry_id) in (Status.TODO, Status.DOING)
        except NoResult:
            return False

    def stalled(self, seconds_since_heartbeat: float) -> list[tuple[str, int]]:
        """Return job key and entry id of each running entry whose worker has sent no heartbeat for so long."""
        return asyncio.run(self._stalled(seconds_since_heartbeat))

    def delete_running(self, entry_id: int) -> None:
        """Delete an entry that a worker has fetched."""
        asyncio.run(self._delete_running(entry_id))

    # Procrastinate offers the following only asynchronously.

    @asynccontextmanager
    async def _manager(self) -> AsyncIterator[JobManager]:
        connector = PsycopgConnector(conninfo=self._url, min_size=1, max_size=1, reconnect_timeout=RECONNECT_S)
        await connector.open_async()
        try:
            yield JobManager(connector)
        finally:
            await connector.close_async()

    async def _stalled(self, seconds_since_heartbeat: float) -> list[tuple[str, int]]:
        async with self._manager() as manager:
            stalled = await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=seconds_since_heartbeat)
            return [(str(job.task_kwargs["key"]), job.id) for job in stalled if job.id is not None]

    async def _delete_running(self, entry_id: int) -> None:
        async with self._manager() as manager:
            await manager.finish_job_by_id_async(entry_id, Status.FAILED, delete_job=True)
