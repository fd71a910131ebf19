"""The keeper of the worker process, in `serve`: starts it, starts it again when it died, ends it when it has to go."""

import logging
import multiprocessing
import time
from multiprocessing.context import SpawnProcess

import psycopg

from models.package import IntendedUse
from plugin.database.pool import Database
from plugin.http.metrics import Metrics
from plugin.jobs.job import JobState
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from plugin.worker.job_runner import SegmentFactory
from plugin.worker.process import run_worker
from plugin.worker.progress_pipe import Progress, ProgressReader

_LOG = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 60.0
_WELL_AFTER_S = 60.0


class WorkerSupervisor:
    """Starts the worker, starts it again when it died, and ends it. For one thread, which must outlive the worker."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        queue: JobQueue,
        intended_use: IntendedUse,
        make_segment: SegmentFactory,
        meters: Metrics,
    ) -> None:
        self._meters = meters
        self._queue = queue
        self._database = database
        self._step_limit_s = settings.compute.step_limit_s
        self._arguments = (settings, database.url, database.embedded, intended_use, make_segment)
        self._process: SpawnProcess | None = None
        self._in_hand: ProgressReader | None = None
        self._started_at = 0.0
        self._deaths = 0
        self._not_before = 0.0
        self._runs = False

    @property
    def runs(self) -> bool:
        """Whether there was a worker at the last `check`; for any thread."""
        return self._runs

    @property
    def pid(self) -> int | None:
        """The worker's process id; None where there is none at the moment."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def check(self) -> None:
        """See to it that a worker runs. After a death its job is queued again, and the pause before a start doubles."""
        self._look_after()
        self._runs = self._process is not None

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._process is not None and self._process.is_alive():
            if now - self._started_at > _WELL_AFTER_S:
                self._deaths = 0
            why = self._unwanted()
            if why is None:
                return
            _LOG.warning("ending the worker: %s", why)
            self._meters.worker_deaths.inc()
            self._process.kill()
            self._process.join()
            self._handle_exit()
        elif self._process is not None:
            _LOG.error("the worker ended with exit code %s", self._process.exitcode)
            self._not_before = now + min(_LONGEST_PAUSE_S, 0.25 * 2**self._deaths)
            self._deaths += 1
            self._meters.worker_deaths.inc()
            self._handle_exit()
        if now >= self._not_before:
            self._start()

    def ask_to_end(self) -> None:
        """Let the worker end after its running job. Does not wait."""
        if self._process is not None:
            self._process.terminate()

    def stop(self, drain_s: float) -> None:
        """Wait `drain_s` seconds for the running job, then end the worker; its job waits for the next start."""
        process = self._process
        if process is None:
            return
        self.ask_to_end()
        process.join(drain_s)
        if process.is_alive():
            _LOG.warning("the running job is not done in time; it will be run again")
            in_hand = self._look()
            process.kill()
            process.join()
            if in_hand is not None and not self._database.embedded:
                self._give_back(in_hand.job_key)
        self._close()
        if self._database.embedded:
            self._queue.release()

    def _give_back(self, key: str) -> None:
        try:
            job = self._queue.peek(key)
            if job is not None:
                self._queue.give_back(key, job.attempts)
        except psycopg.Error as exc:  # another process finds the job by its worker's silence
            _LOG.warning("job %s could not be given back (%s)", key, type(exc).__name__)

    def _unwanted(self) -> str | None:
        """Why what the worker does is of no use, a clause; None where it is. Other jobs wait for it."""
        in_hand = self._look()
        if in_hand is None:
            return None
        job = self._queue.peek(in_hand.job_key)
        why = None
        if job is not None and job.state is JobState.CANCELLED:
            why = f"its job {job.key} was cancelled"
        elif time.monotonic() - in_hand.since > self._step_limit_s:
            why = f"the step {in_hand.step} took longer than {self._step_limit_s:g} s"
            self._queue.note_trouble(in_hand.job_key, why)
        # Looked at again: the worker says that a job is out of its hands before it writes down the outcome.
        return why if self._look() == in_hand else None

    def _look(self) -> Progress | None:
        return self._in_hand.latest() if self._in_hand is not None else None

    def _handle_exit(self) -> None:
        """Clear away a worker that has ended, and let its job be taken by the next."""
        self._close()
        if self._database.embedded:
            self._queue.take_over(0.0)

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
        if self._in_hand is not None:
            self._in_hand.close()
        self._process = self._in_hand = None

    def _start(self) -> None:
        level = logging.getLogger().getEffectiveLevel()
        context = multiprocessing.get_context("spawn")
        ours, its = context.Pipe(duplex=False)
        self._process = context.Process(target=run_worker, args=(*self._arguments, level, its), name="glionode-worker")
        self._process.start()
        its.close()
        self._in_hand = ProgressReader(ours, self._meters.step_took)
        self._started_at = time.monotonic()
