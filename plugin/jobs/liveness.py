"""Read from the database when work last moved: when workers were heard of, jobs fetched, and delivery loops turned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugin.database.pool import Connection
from plugin.jobs.procrastinate_queue import QUEUE, STALLED_AFTER_S


@dataclass(frozen=True, slots=True)
class WorkersLiveness:
    """The workers of all hosts. Each time is in seconds before now; None where there was none."""

    live: int
    """Workers with a heartbeat lately."""
    idle: int
    """Those of them that run no job."""
    since_heartbeat_s: float | None
    since_started_s: float | None
    """Since a worker last started a job."""
    since_ended_s: float | None
    """Since a job last came to its end."""
    oldest_due_s: float | None
    """For how long the job has been due that any worker may fetch and that waits longest."""


@dataclass(frozen=True, slots=True)
class DelivererLiveness:
    """What works for a destination, by the lease of its loop."""

    owner: str
    """Host and process; empty where there is none."""
    since_turn_s: float
    """Since the loop last turned: it looks for due objects, or has the outcome of one."""
    oldest_due_s: float | None
    """For how long the object has been due that waits longest; None where none is."""


def read_workers(connection: Connection) -> WorkersLiveness:
    """Return when the workers were heard of, and when jobs moved."""
    row = connection.execute(
        """
        WITH live AS (
            SELECT id FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %(stalled)s)
        ), due AS (
            SELECT coalesce((SELECT max(at) FROM procrastinate_events e WHERE e.job_id = p.id), now()) AS since
            FROM procrastinate_jobs p
            WHERE p.status = 'todo' AND p.queue_name = %(queue)s AND coalesce(p.scheduled_at, now()) <= now()
            AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs d WHERE d.lock = p.lock AND d.status = 'doing')
            ORDER BY p.id LIMIT 100
        )
        SELECT (SELECT count(*) FROM live),
        (SELECT count(*) FROM live WHERE NOT EXISTS (
            SELECT 1 FROM procrastinate_jobs p WHERE p.worker_id = live.id AND p.status = 'doing')),
        (SELECT extract(epoch FROM now() - max(last_heartbeat))::float FROM procrastinate_workers),
        (SELECT extract(epoch FROM now() - max(started_at))::float FROM glionode_jobs),
        (SELECT extract(epoch FROM now() - max(finished_at))::float FROM glionode_jobs),
        (SELECT extract(epoch FROM now() - min(since))::float FROM due)
        """,
        {"stalled": STALLED_AFTER_S, "queue": QUEUE},
    ).fetchone()
    assert row is not None, "it selects one row"
    return WorkersLiveness(*row)


def read_deliverers(connection: Connection, destinations: Sequence[str]) -> Mapping[str, DelivererLiveness]:
    """Return what works for these destinations, by name."""
    rows = connection.execute(
        """
        SELECT d.name, coalesce(l.owner, ''), coalesce(extract(epoch FROM clock_timestamp() - l.turned_at)::float, 0),
        (SELECT extract(epoch FROM now() - greatest(min(o.next_try), max(p.next_try)))::float
            FROM glionode_outbox o LEFT JOIN glionode_pauses p USING (destination)
            WHERE o.destination = d.name AND o.state IN ('queued', 'failed') AND o.next_try <= now()
            AND coalesce(p.next_try, now()) <= now())
        FROM unnest(%s::text[]) d (name)
        LEFT JOIN glionode_leases l ON l.name = 'deliver ' || d.name AND l.expires_at >= clock_timestamp()
        """,
        (list(destinations),),
    ).fetchall()
    return {name: DelivererLiveness(_host_and_pid(owner), turned, due) for name, owner, turned, due in rows}


def _host_and_pid(owner: str) -> str:
    """Return the part of a lease's owner that means something to a person."""
    parts = owner.split("/")
    return f"{parts[0]} (process {parts[2].partition('-')[0]})" if len(parts) == 4 else owner
