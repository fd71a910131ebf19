"""What all services of a node process share."""

import time
from dataclasses import dataclass

from models.package import ModelPackage
from plugin.database.pool import Database
from plugin.http.metrics import Metrics
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings


class Drain:
    """The time that everything which ends has together, counted from the first that asks for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def left_s(self) -> float:
        """Seconds that are left, 0 at least."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        return max(0.0, self._deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What the parts of a process have in common."""

    settings: Settings
    model: ModelPackage
    database: Database
    queue: JobQueue
    drain: Drain
    meters: Metrics
