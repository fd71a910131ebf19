"""Purge studies in the running node: those delivered long ago, and the oldest ones when the disk fills.

Also complete or undo what an interrupted `glionode purge` beside the node left.
"""

import logging
import math
import threading
import time
from collections.abc import Callable

from plugin.logs import Outage
from plugin.retention.purge import PurgedStudy, Purger
from plugin.settings.sections import StorageSettings

_LOG = logging.getLogger(__name__)

PURGE_EVERY_S = 30.0
_DAY_S = 86400.0
_JUMP_S = 3600.0


class Retention:
    """Purges studies by the settings, in a thread of its own."""

    def __init__(self, purger: Purger, settings: StorageSettings, free_bytes: Callable[[], int]) -> None:
        """`free_bytes` returns the free space of the disk."""
        self._purger = purger
        self._free_bytes = free_bytes
        self._settings = settings
        self._ahead_s: float | None = None
        """Of the wall clock against the monotonic one, at the last look."""
        self._believed_at = -math.inf
        """From when on ages are counted by the wall clock, in seconds of the monotonic one."""
        self._outage = Outage(_LOG, "purging")
        self._room = Outage(_LOG, "making room on the disk")

    def run(self, stop: threading.Event) -> None:
        """Purge every half minute until `stop` is set. Errors are logged, and the next round tries again."""
        while not stop.is_set():
            try:
                self._purger.finish_interrupted()
                now = time.time()
                self.purge_due(now, by_age=self.believes(now, time.monotonic()))
                self._outage.works()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next round tries again
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
            stop.wait(PURGE_EVERY_S)

    def believes(self, now: float, monotonic: float) -> bool:
        """Return whether ages may be counted by the wall clock: not for a day after it was set forward by an hour.

        `now` is in seconds since 1970, `monotonic` in seconds of the monotonic clock.
        """
        ahead_s = now - monotonic
        if self._ahead_s is not None and ahead_s - self._ahead_s > _JUMP_S:
            self._believed_at = monotonic + _DAY_S
            if self._settings.keep_days > 0:
                _LOG.warning(
                    "this host's clock was set forward by %.1f h, so nothing is purged for its age for a day; check "
                    "the clock: `timedatectl` should say that it is synchronized",
                    (ahead_s - self._ahead_s) / 3600,
                )
        self._ahead_s = ahead_s
        return monotonic >= self._believed_at

    def purge_due(self, now: float, by_age: bool = True) -> tuple[PurgedStudy, ...]:
        """Purge what is older than `keep_days`, then the oldest studies until `purge_below_mb` are free.

        Without `by_age`, only the latter.
        """
        purged: list[PurgedStudy] = []
        if self._settings.keep_days > 0 and by_age:
            purged += self._purge(now, self._settings.keep_days * _DAY_S, lambda: False)
        if self._low():
            purged += self._purge(now, 0.0, lambda: not self._low())
        if self._low():
            wanted = f"less than {self._settings.purge_below_mb} MiB are free"
            self._room.failed(f"{wanted}, and no delivered study is left to purge; free some space")
        else:
            self._room.works()
        return tuple(purged)

    def _purge(self, now: float, older_than_s: float, enough: Callable[[], bool]) -> list[PurgedStudy]:
        purged = []
        for study in self._purger.studies():
            if enough():
                break
            outcome = self._purger.purge(study, now, older_than_s, dry_run=False)
            if isinstance(outcome, PurgedStudy):
                _LOG.info("purged study %s: %d files, %d MiB", study, outcome.files, outcome.freed_bytes >> 20)
                purged.append(outcome)
        return purged

    def _low(self) -> bool:
        return self._free_bytes() < self._settings.purge_below_mb << 20
