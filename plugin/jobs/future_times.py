"""Bring back times in the database that lie further ahead than the node ever plans.

The database's clock was wrong when it wrote them, or was set back since. What waits for such a time would wait for as
long as the clock was wrong: a delivery for its next attempt, a job for its dead worker to be noticed.
"""

import logging

from plugin.database.pool import Connection

_LOG = logging.getLogger(__name__)

_TOLERANCE_S = 60.0
_JITTERED = 1.5
"""More than what chance adds to a pause."""
_STATEMENTS = (
    "UPDATE procrastinate_workers SET last_heartbeat = now() "
    "WHERE last_heartbeat > now() + make_interval(secs => %(tolerance)s)",
    "UPDATE glionode_outbox SET next_try = now() WHERE state IN ('queued', 'failed') "
    "AND next_try > now() + make_interval(secs => %(pause)s)",
    "UPDATE glionode_pauses SET next_try = now() WHERE next_try > now() + make_interval(secs => %(pause)s)",
    "UPDATE glionode_outbox SET ask_at = now() WHERE ask_at IS NOT NULL "
    "AND ask_at > now() + make_interval(secs => %(pause)s)",
    # From here on, what the age of a study is counted from.
    "UPDATE glionode_jobs SET finished_at = now() WHERE finished_at > now() + make_interval(secs => %(tolerance)s)",
    "UPDATE glionode_outbox SET sent_at = least(sent_at, now()), committed_at = least(committed_at, now()) "
    "WHERE greatest(sent_at, committed_at) > now() + make_interval(secs => %(tolerance)s)",
)


def bring_back(connection: Connection, longest_pause_s: float) -> int:
    """Make what waits for such a time due now; return the number of rows. `longest_pause_s` is that of delivery."""
    limits = {"tolerance": _TOLERANCE_S, "pause": longest_pause_s * _JITTERED + _TOLERANCE_S}
    changed = sum(connection.execute(statement, limits).rowcount for statement in _STATEMENTS)
    if changed:
        _LOG.warning(
            "%d times in the database lay too far ahead, because its clock was set back; what waited for them is due "
            "now. Check the clock of the database's host: `timedatectl` should say that it is synchronized",
            changed,
        )
    return changed
