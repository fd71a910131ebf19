"""Supervise the worker process: start it, restart it after a crash, and kill it when a step takes too long."""

import logging
import multiprocessing
import time
from multiprocessing.context import SpawnProcess

import psycopg

from plugin.context import NodeContext
from plugin.jobs.job import JobState
from plugin.logs import Outage
from plugin.worker.hang import Hang, HangWatch
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.process import DATABASE_LOST, WorkerOptions, run_worker
from plugin.worker.progress_pipe import ProgressReader, WorkerProgress

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 60.0
_STABLE_AFTER_S = 60.0
"""After this time a worker's earlier crashes no longer count."""

_MANY_CRASHES = 3
_WHAT_TO_DO = (
    "so its worker was ended, and the job is not tried again by itself. If the machine was slow, raise "
    "compute.step_limit_s and run `glionode retry JOB`; else look at the geometry of the series."
)
_CHECKED_WITHIN_S = 90.0
"""Longer than a session with a database takes to notice that its server vanished, and to connect again."""


class WorkerSupervisor:
    """Keeps one worker process running.

    Not thread-safe: all methods are for one thread, which must outlive the worker.
    """

    def __init__(self, context: NodeContext, make_segment: SegmentFactory) -> None:
        self._metrics = context.metrics
        self._queue = context.queue
        self._embedded = context.database.embedded
        self._step_limit_s = context.settings.compute.step_limit_s
        self._options = WorkerOptions(
            settings=context.settings,
            database_url=context.database.url,
            embedded=context.database.embedded,
            intended_use=context.model.intended_use,
            make_segment=make_segment,
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        self._process: SpawnProcess | None = None
        self._progress: ProgressReader | None = None
        self._watch: HangWatch | None = None
        self._hang: Hang | None = None
        self._is_accounted_for = False
        self._started_at = 0.0
        self._crashes = 0
        self._outage = Outage(_LOG, "the worker")
        self._not_before = 0.0
        self._running = False
        self._checked_at = time.monotonic()

    def find_trouble(self) -> str | None:
        """Return what is wrong with the worker process, for the health check; None if nothing is. Thread-safe."""
        silent_s = time.monotonic() - self._checked_at
        if silent_s > _CHECKED_WITHIN_S:
            return f"Nothing has watched the worker process for {silent_s:.0f} s; if it stays so, restart this process."
        if self._crashes >= _MANY_CRASHES:
            return f"The worker process has ended {self._crashes} times, one after the other; its log says why."
        return None if self._running else "The worker process has ended."

    def check(self) -> None:
        """Restart the worker if it ended, and end it if it hangs or its job was cancelled.

        A job that made it hang has failed; any other is queued again. The pause before a restart doubles with each
        crash. Raises psycopg.Error where the database does not answer; the next call goes on then.
        """
        self._ensure_worker()
        self._running = self._process is not None
        self._checked_at = time.monotonic()

    def _ensure_worker(self) -> None:
        now = time.monotonic()
        if self._process is not None and self._process.is_alive():
            if now - self._started_at > _STABLE_AFTER_S:
                self._crashes = 0
                self._outage.works()
            hang = self._watch.find() if self._watch is not None else None
            why = hang.why if hang is not None else self._reason_to_cancel()
            if why is None:
                return
            _LOG.warning("killing the worker: %s", why)
            self._hang = hang
            self._metrics.worker_deaths.inc()
            self._process.kill()
            self._process.join()
            if hang is not None and not hang.job_key:
                self._count_crash(now)
        elif self._process is not None and not self._is_accounted_for:
            code = self._process.exitcode
            if code == DATABASE_LOST:
                _LOG.warning("the worker lost the database, and starts again when that answers")
            else:
                self._outage.failed(f"it ended with exit code {code}", level=logging.ERROR)
                self._count_crash(now)
            self._metrics.worker_deaths.inc()
        if self._process is not None:
            self._is_accounted_for = True
            self._clean_up()
        if now >= self._not_before:
            self._queue.ping()  # a worker that cannot reach the database would load its model in vain
            self._start()

    def _count_crash(self, now: float) -> None:
        self._not_before = now + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._crashes)
        self._crashes += 1

    def request_stop(self) -> None:
        """Let the worker stop after its running job. Do not wait for it."""
        if self._process is not None:
            self._process.terminate()

    def stop(self, timeout_s: float) -> None:
        """Stop the worker, after its running job if that ends in time. Otherwise the job is queued again."""
        process = self._process
        if process is None:
            return
        self.request_stop()
        process.join(timeout_s)
        if process.is_alive():
            _LOG.warning("the running job did not finish in time; it is queued again")
            progress = self._latest_progress()
            process.kill()
            process.join()
            if progress is not None and not self._embedded:
                self._postpone(progress.job_key)
        self._close()
        if self._embedded:
            self._queue.postpone_running()

    def _postpone(self, key: str) -> None:
        try:
            job = self._queue.find(key)
            if job is not None:
                self._queue.postpone(key, job.attempts)
        except psycopg.Error as exc:  # another process will find the stalled job
            _LOG.warning("job %s could not be queued again (%s)", key, type(exc).__name__)

    def _reason_to_cancel(self) -> str | None:
        """Return why the worker must leave its job, as a clause; None if it need not."""
        progress = self._latest_progress()
        job = self._queue.find(progress.job_key) if progress is not None else None
        if job is None or job.state is not JobState.CANCELLED:
            return None
        # Read the progress again: the worker reports that it is idle before it records an outcome.
        return f"its job {job.key} was cancelled" if self._latest_progress() == progress else None

    def _latest_progress(self) -> WorkerProgress | None:
        return self._progress.latest() if self._progress is not None else None

    def _clean_up(self) -> None:
        """Record why a worker was ended, release it, and queue its job again unless that is the reason."""
        hang = self._hang
        if hang is not None and hang.job_key is not None:
            if hang.is_of_job:
                self._queue.fail_hung(hang.job_key, f"{hang.why[0].upper()}{hang.why[1:]}, {_WHAT_TO_DO}")
            else:
                self._queue.record_trouble(hang.job_key, hang.why)
        self._hang = None
        self._close()
        if self._embedded:
            self._queue.requeue_stalled(0.0)

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        if self._progress is not None:
            self._progress.close()
        self._process = self._progress = self._watch = None
        self._is_accounted_for = False

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=run_worker, args=(self._options, writer), name="glionode-worker")
        self._process.start()
        writer.close()
        self._progress = ProgressReader(reader, self._metrics.observe_step)
        assert self._process.pid is not None, "it was started"
        self._watch = HangWatch(self._progress, self._process.pid, self._step_limit_s)
        self._started_at = time.monotonic()
