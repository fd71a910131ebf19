"""Hold what all services of one node process share."""

import time
from dataclasses import dataclass

from models.package import ModelPackage
from plugin.database.access_audit import AccessAudit
from plugin.database.pool import Database
from plugin.http.metrics import Metrics
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings


class ShutdownDeadline:
    """A time limit that all services share while they shut down. It starts when the first of them asks for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None

    def left_s(self) -> float:
        """Return the seconds that are left, at least 0."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        return max(0.0, self._deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class NodeContext:
    """The settings, model, database, metrics and record of accesses of one node process."""

    settings: Settings
    model: ModelPackage
    database: Database
    queue: JobQueue
    shutdown_deadline: ShutdownDeadline
    metrics: Metrics
    access: AccessAudit
