"""Who sent which study: counted as instances come, and written to the audit when a sender has paused.

Receiving never waits for the database: where that is away, the counts wait. What a crash takes with it is at most the
last few seconds of counting; the instances themselves are on the disk before they are counted.
"""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg_pool import ConnectionPool

from plugin.database import audit_log
from plugin.database.audit_log import About, Audited, Peer

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
PAUSE_S = 2.0
"""A sender that was silent for so long has sent what it had to send."""


@dataclass(slots=True)
class _Count:
    instances: int
    first: datetime
    last: float
    """Monotonic, seconds."""


class ReceptionAudit:
    """Counts new instances by study and sender, and writes them down in a thread of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._counts: dict[tuple[str, Peer], _Count] = {}
        self._lock = threading.Lock()

    def count(self, study_instance_uid: str, sender: Peer) -> None:
        """An instance of a study was kept. Cheap; may be called from any thread."""
        with self._lock:
            entry = self._counts.setdefault((study_instance_uid, sender), _Count(0, datetime.now(UTC), 0.0))
            entry.instances += 1
            entry.last = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Write down what has come, until `stop`, and then what is left."""
        while not stop.wait(_LOOK_EVERY_S):
            self._write(time.monotonic() - PAUSE_S)
        self._write(time.monotonic())

    def _write(self, silent_since: float) -> None:
        with self._lock:
            done = {key: entry for key, entry in self._counts.items() if entry.last <= silent_since}
            for key in done:
                del self._counts[key]
        for (study, sender), entry in done.items():
            try:
                with self._pool.connection() as connection:
                    detail = f"{entry.instances} new instances"
                    audit_log.record(connection, Audited.RECEIVED, About(study), detail, sender, entry.first)
            except psycopg.Error as exc:
                _LOG.error("the audit was not written (%s); it is tried again", type(exc).__name__)
                self._put_back((study, sender), entry)

    def _put_back(self, key: tuple[str, Peer], entry: _Count) -> None:
        with self._lock:
            newer = self._counts.setdefault(key, _Count(0, entry.first, entry.last))
            newer.instances += entry.instances
            newer.first = entry.first
