"""Count the instances of each study by sender, and write the counts to the audit log when a sender pauses.

Receiving never waits for the database: while that does not answer, the counts wait. A crash loses at most the last few
seconds of counting; the instances themselves are on disk before they are counted.
"""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg_pool import ConnectionPool

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer

_LOG = logging.getLogger(__name__)

_POLL_EVERY_S = 0.5
PAUSE_S = 2.0
"""A sender that was silent for so long has sent all it had to send."""


@dataclass(slots=True)
class _Count:
    instances: int
    first: datetime
    last: float
    """Monotonic, seconds."""


class ReceptionAudit:
    """Counts new instances by study and sender; writes the counts in a thread of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._counts: dict[tuple[str, Peer], _Count] = {}
        self._lock = threading.Lock()

    def count(self, study_instance_uid: str, sender: Peer) -> None:
        """Count a new instance of a study. Does no I/O; thread-safe."""
        with self._lock:
            entry = self._counts.setdefault((study_instance_uid, sender), _Count(0, datetime.now(UTC), 0.0))
            entry.instances += 1
            entry.last = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Write counts until `stop` is set, and then those that are left."""
        while not stop.wait(_POLL_EVERY_S):
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
                    audit_log.record(connection, AuditEvent.RECEIVED, AuditSubject(study), detail, sender, entry.first)
            except psycopg.Error as exc:
                _LOG.error("could not write to the audit log (%s); trying again", type(exc).__name__)
                self._restore((study, sender), entry)

    def _restore(self, key: tuple[str, Peer], entry: _Count) -> None:
        with self._lock:
            newer = self._counts.setdefault(key, _Count(0, entry.first, entry.last))
            newer.instances += entry.instances
            newer.first = entry.first
