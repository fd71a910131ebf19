"""Write to the audit log who was refused and who used the HTTP server: a row for each peer, kind and hour.

The first of a kind is a row at once; the number of the others is one more row when the hour is over. So a scanner of
ports does not fill the database.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.logs import Outage

_LOG = logging.getLogger(__name__)

_HOUR_S = 3600.0
_WRITE_EVERY_S = 1.0
_MOST_KINDS = 1000
"""Rows of one hour, at most twice that: an attacker may call himself differently each time."""
_OTHERS = Peer("", "")
_NO_STUDY = AuditSubject("")


class _Kind(NamedTuple):
    what: AuditEvent
    peer: Peer
    detail: str


class AccessAudit:
    """Counts what peers do by kind, and writes it in a thread of its own."""

    def __init__(self, pool: ConnectionPool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._lock = threading.Lock()
        self._hour_began = clock()
        self._counts: dict[_Kind, int] = {}
        self._unwritten: list[_Kind] = []
        self._outage = Outage(_LOG, "writing access to the audit log")

    def note(self, what: AuditEvent, peer: Peer, detail: str) -> None:
        """Count an event. `detail` is one of a few sentences and names no study. Does no I/O; thread-safe."""
        kind = _Kind(what, peer, detail)
        with self._lock:
            if kind not in self._counts and len(self._counts) >= _MOST_KINDS:
                kind = _Kind(what, _OTHERS, f"{_MOST_KINDS} kinds in this hour; others are only counted")
            if kind not in self._counts:
                self._unwritten.append(kind)
            self._counts[kind] = self._counts.get(kind, 0) + 1

    def run(self, stop: threading.Event) -> None:
        """Write until `stop` is set, and then what is left."""
        while not stop.wait(_WRITE_EVERY_S):
            self.write(self._clock() - self._hour_began >= _HOUR_S)
        self.write(hour_is_over=True)

    def write(self, hour_is_over: bool) -> None:
        """Write what is new, and at the end of the hour how often each came again; keep it if the database is away."""
        with self._lock:
            rows = [(kind, kind.detail) for kind in self._unwritten]
            if hour_is_over:
                rows += [
                    (kind, f"{kind.detail}; {count - 1} more times within the hour")
                    for kind, count in self._counts.items()
                    if count > 1
                ]
        try:
            if rows:
                with self._pool.connection() as connection:
                    for kind, detail in rows:
                        audit_log.record(connection, kind.what, _NO_STUDY, detail, kind.peer)
        except (psycopg.Error, PoolTimeout) as exc:
            self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
            return
        self._outage.works()
        with self._lock:
            written = {kind for kind, _ in rows}
            self._unwritten = [kind for kind in self._unwritten if kind not in written]
            if hour_is_over:
                self._hour_began = self._clock()
                self._counts = dict.fromkeys(self._unwritten, 1)
