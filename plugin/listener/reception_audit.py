"""Count the instances of each study by sender, and write the counts to the audit log when a sender pauses.

Instances that came again with other bytes are counted apart, with the tags of the elements that differ.

Receiving never waits for the database: while that does not answer, the counts wait. A crash loses at most the last few
seconds of counting; the instances themselves are on disk before they are counted.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg
from psycopg_pool import ConnectionPool

from plugin.archive.compare_instances import name_tags
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.listener.repeated_instance import Repeat, RepeatOutcome
from plugin.logs import Outage

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
    tags: set[int] = field(default_factory=set)
    """Elements that differ from those that came first."""


class _Counted(NamedTuple):
    """The study, sender and kind of repeat whose images are counted in one line of the audit log."""

    study_instance_uid: str
    sender: Peer
    repeat: Repeat | None
    """None for new instances."""


_REPEATS = {
    Repeat.KEPT_FIRST: "came again with other elements; the first are kept",
    Repeat.KEPT_FIRST_PATIENT: "came again for another patient; the first are kept, as the settings say",
    Repeat.NEW_PATIENT: "came again for another patient and took the place of the first, which are kept, too",
    Repeat.MENDED: "came again whole and took the place of the first, which could not be read",
    Repeat.REFUSED_IMAGE: "refused: other images are here under their UIDs",
    Repeat.REFUSED_PATIENT: "refused: they are here for another patient",
}


class ReceptionAudit:
    """Counts new instances by study and sender; writes the counts in a thread of its own."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._counts: dict[_Counted, _Count] = {}
        self._lock = threading.Lock()
        self._outage = Outage(_LOG, "writing receptions to the audit log")

    def count(self, study_instance_uid: str, sender: Peer) -> None:
        """Count a new instance of a study. Does no I/O; thread-safe."""
        self._count(_Counted(study_instance_uid, sender, None), ())

    def count_repeat(self, study_instance_uid: str, sender: Peer, outcome: RepeatOutcome) -> None:
        """Count an instance that came again with other bytes. Does no I/O; thread-safe."""
        self._count(_Counted(study_instance_uid, sender, outcome.repeat), outcome.tags)

    def _count(self, counted: _Counted, tags: tuple[int, ...]) -> None:
        with self._lock:
            entry = self._counts.setdefault(counted, _Count(0, datetime.now(UTC), 0.0))
            entry.instances += 1
            entry.last = time.monotonic()
            entry.tags.update(tags)

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
        for counted, entry in done.items():
            try:
                with self._pool.connection() as connection:
                    audit_log.record(
                        connection,
                        AuditEvent.RECEIVED if counted.repeat is None else AuditEvent.RECEIVED_AGAIN,
                        AuditSubject(counted.study_instance_uid),
                        _describe(counted.repeat, entry),
                        counted.sender,
                        entry.first,
                    )
            except psycopg.Error as exc:
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
                self._restore(counted, entry)
            else:
                self._outage.works()

    def _restore(self, counted: _Counted, entry: _Count) -> None:
        with self._lock:
            newer = self._counts.setdefault(counted, _Count(0, entry.first, entry.last))
            newer.instances += entry.instances
            newer.first = entry.first
            newer.tags |= entry.tags


def _describe(repeat: Repeat | None, entry: _Count) -> str:
    if repeat is None:
        return f"{entry.instances} new instances"
    differ = f"; {name_tags(tuple(sorted(entry.tags)))} differ" if entry.tags else ""
    return f"{entry.instances} instances {_REPEATS[repeat]}{differ}"
