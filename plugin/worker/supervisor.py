"""Supervise the worker process: start it, restart it after a crash, and kill it when a step takes too long."""

import logging
import multiprocessing
import time
from multiprocessing.context import SpawnProcess

import psycopg

from plugin.context import NodeContext
from plugin.jobs.job import JobState
from plugin.logs import Outage
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.process import WorkerOptions, run_worker
from plugin.worker.progress_pipe import ProgressReader, WorkerProgress

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 60.0
_STABLE_AFTER_S = 60.0
"""After this time a worker's earlier crashes no longer count."""

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
        return None if self._running else "The worker process has ended."

    def check(self) -> None:
        """Restart the worker if it crashed, and kill it if its job was cancelled or a step takes too long.

        Its job is queued again. The pause before a restart doubles with each crash.
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
            why = self._reason_to_kill()
            if why is None:
                return
            _LOG.warning("killing the worker: %s", why)
            self._metrics.worker_deaths.inc()
            self._process.kill()
            self._process.join()
            self._clean_up()
        elif self._process is not None:
            self._outage.failed(f"it ended with exit code {self._process.exitcode}", level=logging.ERROR)
            self._not_before = now + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._crashes)
            self._crashes += 1
            self._metrics.worker_deaths.inc()
            self._clean_up()
        if now >= self._not_before:
            self._start()

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

    def _reason_to_kill(self) -> str | None:
        """Return why the worker must be killed so that other jobs can run, as a clause; None if it need not be."""
        progress = self._latest_progress()
        if progress is None:
            return None
        job = self._queue.find(progress.job_key)
        why = None
        if job is not None and job.state is JobState.CANCELLED:
            why = f"its job {job.key} was cancelled"
        elif time.monotonic() - progress.since > self._step_limit_s:
            why = f"the step {progress.step} took longer than {self._step_limit_s:g} s"
            self._queue.record_trouble(progress.job_key, why)
        # Read the progress again: the worker reports that it is idle before it records an outcome.
        return why if self._latest_progress() == progress else None

    def _latest_progress(self) -> WorkerProgress | None:
        return self._progress.latest() if self._progress is not None else None

    def _clean_up(self) -> None:
        """Release a worker that has ended, and queue its job again."""
        self._close()
        if self._embedded:
            self._queue.requeue_stalled(0.0)

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        if self._progress is not None:
            self._progress.close()
        self._process = self._progress = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(target=run_worker, args=(self._options, writer), name="glionode-worker")
        self._process.start()
        writer.close()
        self._progress = ProgressReader(reader, self._metrics.observe_step)
        self._started_at = time.monotonic()
