"""What a worker process has in hand, told to its keeper through a pipe. Small messages, so none is ever cut off."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection


@dataclass(frozen=True, slots=True)
class Progress:
    """A job and the step that it is at."""

    job_key: str
    step: str
    since: float
    """When the step began, by the machine's monotonic clock, seconds."""


OnStepEnd = Callable[[str, float], None]
"""Called with the name of a step that has ended and the seconds that it took."""


class ProgressWriter:
    """The worker's end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def step(self, job_key: str, step: str) -> None:
        """A step of a job begins."""
        self._pipe.send((job_key, step, time.monotonic()))

    def nothing(self) -> None:
        """The job is out of our hands; said before its outcome is written down, so that nobody takes it for hung."""
        self._pipe.send((None, None, time.monotonic()))


class ProgressReader:
    """The keeper's end; for one thread."""

    def __init__(self, pipe: Connection, on_step_end: OnStepEnd) -> None:
        self._pipe = pipe
        self._on_step_end = on_step_end
        self._latest: Progress | None = None

    def latest(self) -> Progress | None:
        """What the worker has in hand; None where it waits for a job."""
        try:
            while self._pipe.poll():
                job_key, step, at = self._pipe.recv()
                if self._latest is not None:
                    self._on_step_end(self._latest.step, at - self._latest.since)
                self._latest = Progress(job_key, step, at) if job_key is not None else None
        except (EOFError, OSError):  # the worker is gone; what it had last in hand stays
            pass
        return self._latest

    def close(self) -> None:
        """Of no more use, for the worker is gone."""
        self._pipe.close()
