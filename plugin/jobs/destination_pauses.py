"""The pauses of destinations that cannot be reached: one database row for each, until it can be reached again.

No object is charged for such a failure: it keeps its attempts, and its place in the queue.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent
from plugin.database.pool import Connection


@dataclass(frozen=True, slots=True)
class DestinationPause:
    """A destination that cannot be reached, and when it is tried again."""

    destination: str
    failures: int
    """How often it could not be reached, one after the other."""
    error: str
    since: datetime
    next_try: datetime


def record_unreachable(
    connection: Connection,
    destination: str,
    error: str,
    pause_s: Callable[[int], float],
    give_up_after_h: float,
) -> tuple[int, float]:
    """Pause a destination for the seconds that `pause_s` returns for the number of failures; return both.

    Its waiting objects that are older than `give_up_after_h` are given up.
    """
    row = connection.execute("SELECT failures FROM glionode_pauses WHERE destination = %s", (destination,)).fetchone()
    failures = 1 + (row[0] if row is not None else 0)
    pause = pause_s(failures)
    connection.execute(
        "INSERT INTO glionode_pauses (destination, failures, error, next_try) "
        "VALUES (%(destination)s, %(failures)s, %(error)s, now() + make_interval(secs => %(pause)s)) "
        "ON CONFLICT (destination) DO UPDATE "
        "SET failures = excluded.failures, error = excluded.error, next_try = excluded.next_try",
        {"destination": destination, "failures": failures, "error": error, "pause": pause},
    )
    given_up = connection.execute(
        "UPDATE glionode_outbox SET state = 'dead', last_error = %s WHERE destination = %s "
        "AND state IN ('queued', 'failed') AND coalesce(retried_at, created_at) < now() - make_interval(secs => %s) "
        "RETURNING sop_instance_uid, job_key",
        (error, destination, give_up_after_h * 3600),
    ).fetchall()
    for uid, key in given_up:
        audit_log.record_for_job(connection, AuditEvent.GIVEN_UP, key, f"{uid} to {destination}: {error}")
    connection.execute(
        "UPDATE glionode_outbox SET state = 'failed', last_error = %s WHERE destination = %s "
        "AND state IN ('queued', 'failed') AND next_try <= now() AND NOT (alone AND state = 'failed')",
        (error, destination),
    )
    return failures, pause


def record_reached(connection: Connection, destination: str) -> None:
    """End the pause of a destination, because it answers."""
    connection.execute("DELETE FROM glionode_pauses WHERE destination = %s", (destination,))


def try_now(connection: Connection, destinations: Iterable[str]) -> None:
    """Let destinations be tried now; the failures before still count."""
    connection.execute("UPDATE glionode_pauses SET next_try = now() WHERE destination = ANY(%s)", (list(destinations),))


def read_pauses(connection: Connection) -> dict[str, DestinationPause]:
    """Return the pauses of all destinations, by name; none where the database is of an older version."""
    if connection.execute("SELECT to_regclass('glionode_pauses')::text").fetchone() == (None,):
        return {}
    with connection.cursor(row_factory=class_row(DestinationPause)) as cursor:
        cursor.execute("SELECT * FROM glionode_pauses ORDER BY destination")
        return {each.destination: each for each in cursor.fetchall()}
