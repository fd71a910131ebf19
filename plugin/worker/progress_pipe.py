"""Report which step of which job a worker process runs, to its supervisor, through a pipe.

The messages are small, so each is written to the pipe whole.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

_SIGN_OF_LIFE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerProgress:
    """A job and the step that it is at."""

    job_key: str
    step: str
    since: float
    """When the step began, in seconds of the machine's monotonic clock."""


OnStepEnd = Callable[[str, float], None]
"""Called with the name of a step that has ended and its duration in seconds."""


class ProgressWriter:
    """The worker's end of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._one_at_a_time = threading.Lock()

    def start_signs_of_life(self) -> None:
        """Report now and every few seconds, from a thread, that the process runs: it was loaded, and is not stopped."""
        threading.Thread(target=self._show_life, daemon=True).start()

    def step(self, job_key: str, step: str) -> None:
        """Report that a step of a job begins."""
        self._send((job_key, step, time.monotonic()))

    def idle(self) -> None:
        """Report that no job runs.

        Call this before the outcome is recorded, so that the supervisor does not kill the worker for a slow step.
        """
        self._send((None, None, time.monotonic()))

    def _show_life(self) -> None:
        try:
            while True:
                self._send(None)
                time.sleep(_SIGN_OF_LIFE_EVERY_S)
        except OSError:  # the supervisor is gone, and so is this process
            return

    def _send(self, message: object) -> None:
        with self._one_at_a_time:
            self._pipe.send(message)


class ProgressReader:
    """The supervisor's end of the pipe. Not thread-safe."""

    def __init__(self, pipe: Connection, on_step_end: OnStepEnd) -> None:
        self._pipe = pipe
        self._on_step_end = on_step_end
        self._latest: WorkerProgress | None = None
        self._has_started = False
        self._heard_at = time.monotonic()

    @property
    def has_started(self) -> bool:
        """Whether the process has loaded what it needs, as of the latest `latest`."""
        return self._has_started

    @property
    def heard_at(self) -> float:
        """When the process last reported anything, in seconds of the monotonic clock, as of the latest `latest`."""
        return self._heard_at

    def latest(self) -> WorkerProgress | None:
        """Return the job and step that the worker is at; None while it waits for a job."""
        try:
            while self._pipe.poll():
                message = self._pipe.recv()
                self._has_started, self._heard_at = True, time.monotonic()
                if message is None:
                    continue
                job_key, step, at = message
                if self._latest is not None:
                    self._on_step_end(self._latest.step, at - self._latest.since)
                self._latest = WorkerProgress(job_key, step, at) if job_key is not None else None
        except (EOFError, OSError):  # the worker is gone; its latest step remains
            pass
        return self._latest

    def close(self) -> None:
        """Close the pipe once the worker is gone."""
        self._pipe.close()
