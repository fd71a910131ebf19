"""Read from the database what waits, failed lately or was given up, for alerts: counts and ages, never a UID."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from plugin.database.pool import Connection

LATELY_H = 24
"""A job that failed so many hours ago is old news: a study that cannot be segmented stays failed for ever."""


@dataclass(frozen=True, slots=True)
class DeliveryBacklog:
    """The objects that one destination has not got."""

    waiting: int
    """Those that are tried, or tried again."""
    dead: int
    """Those that were given up."""
    held: int
    """Those of empty results that wait for a person."""
    oldest_waiting_s: float
    """Age of the one that waits longest; 0 where none waits."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not come to its end at one moment."""

    jobs_failed_lately: int
    oldest_queued_s: float
    """Age of the job that waits longest; 0 where none waits."""
    deliveries: Mapping[str, DeliveryBacklog]
    """By destination; those without such objects are left out."""
    results_lost: int
    """Jobs whose result was lost or damaged on disk, and is not made again yet."""
    last_received_at: datetime | None
    """When the first image of the latest reception came; None where none was received."""


def read_backlog(connection: Connection) -> Backlog:
    """Return what waits, failed lately or was given up. All of it is found by indexes."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM glionode_jobs WHERE state = 'failed' "
        "        AND finished_at > now() - make_interval(hours => %s)), "
        "(SELECT extract(epoch FROM now() - min(coalesce(queued_at, created_at))) FROM glionode_jobs "
        "        WHERE state = 'queued' AND finished_at IS NULL), "
        "(SELECT max(at) FROM glionode_audit WHERE what = 'received'), "
        "(SELECT count(*) FROM glionode_jobs WHERE finished_at IS NULL AND result_lost)",
        (LATELY_H,),
    ).fetchone()
    assert row is not None, "it selects one row"
    failed, oldest, received, lost = row
    rows = connection.execute(
        "SELECT destination, count(*) FILTER (WHERE state IN ('queued', 'failed')), "
        "count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state = 'held'), "
        "extract(epoch FROM now() - min(coalesce(retried_at, created_at)) "
        "        FILTER (WHERE state IN ('queued', 'failed'))) "
        "FROM glionode_outbox WHERE state IN ('queued', 'failed', 'dead', 'held') GROUP BY destination ORDER BY 1"
    ).fetchall()
    deliveries = {
        str(name): DeliveryBacklog(waiting, dead, held, float(age or 0)) for name, waiting, dead, held, age in rows
    }
    return Backlog(int(failed), float(oldest or 0), deliveries, int(lost), received)


def read_since_received(connection: Connection) -> float | None:
    """Return how many seconds ago the first image of the latest reception came; None where none was received."""
    row = connection.execute(
        "SELECT extract(epoch FROM now() - max(at)) FROM glionode_audit WHERE what = 'received'"
    ).fetchone()
    return float(row[0]) if row is not None and row[0] is not None else None
