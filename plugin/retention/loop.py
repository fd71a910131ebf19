"""The running node's own purging: what was delivered long ago, and when the disk fills, what was delivered first."""

import logging
import threading
import time
from collections.abc import Callable

from plugin.retention.purge import PurgedStudy, Purger
from plugin.settings.sections import StorageSettings

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
_DAY_S = 86400.0


class Retention:
    """Looks at the disk in a thread of its own."""

    def __init__(self, purger: Purger, settings: StorageSettings, free_bytes: Callable[[], int]) -> None:
        """`free_bytes` says how much room the disk has."""
        self._purger = purger
        self._free_bytes = free_bytes
        self._settings = settings

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`. What goes wrong is logged and tried again at the next look."""
        while not stop.is_set():
            try:
                self._purger.clear_leftovers()
                self.look(time.time())
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next look makes it good
                _LOG.error("purging failed (%s); it is tried again", type(exc).__name__)
            stop.wait(LOOK_EVERY_S)

    def look(self, now: float) -> tuple[PurgedStudy, ...]:
        """Purge what is older than `keep_days`, then the oldest studies until `purge_below_mb` are free."""
        purged: list[PurgedStudy] = []
        if self._settings.keep_days > 0:
            purged += self._purge(now, self._settings.keep_days * _DAY_S, lambda: False)
        if self._low():
            purged += self._purge(now, 0.0, lambda: not self._low())
            if self._low():
                _LOG.warning(
                    "less than %d MiB are free, and no delivered study is left to purge", self._settings.purge_below_mb
                )
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
