"""Read from the outbox what became of a study's results: what was stored, what waits, and which job made it."""

from collections.abc import Sequence
from dataclasses import dataclass

from plugin.database.pool import Connection


def delivered(connection: Connection, job_key: str, destinations: Sequence[str]) -> tuple[str, ...]:
    """Return the SOP instance UIDs of a job's result that one of these destinations has and none is waiting for.

    For an unchanged job, this is the result of the earlier job that it refers to.
    """
    rows = connection.execute(
        "SELECT sop_instance_uid FROM glionode_outbox o JOIN glionode_jobs j ON j.key = o.job_key "
        "WHERE j.purged_at IS NULL AND o.destination = ANY(%(destinations)s) "
        "AND j.key IN (%(job)s, (SELECT same_as FROM glionode_jobs WHERE key = %(job)s)) "
        "GROUP BY sop_instance_uid HAVING bool_or(o.state IN ('sent', 'committed')) "
        "AND NOT bool_or(o.state IN ('queued', 'failed', 'held')) ORDER BY sop_instance_uid",
        {"destinations": list(destinations), "job": job_key},
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


@dataclass(frozen=True, slots=True)
class EarlierDeliveries:
    """The deliveries of a study's results, as a new analysis finds them."""

    stored: int
    """How many deliveries have reached their destinations; the new result supersedes them."""
    waiting: int
    given_up: int


def earlier_deliveries(connection: Connection, study: str) -> EarlierDeliveries:
    """Count the deliveries of a study's objects."""
    counts = dict(
        connection.execute(
            "SELECT o.state, count(*) FROM glionode_outbox o JOIN glionode_jobs j ON j.key = o.job_key "
            "WHERE j.study_instance_uid = %s GROUP BY o.state",
            (study,),
        ).fetchall()
    )
    return EarlierDeliveries(
        stored=counts.get("sent", 0) + counts.get("committed", 0),
        waiting=counts.get("queued", 0) + counts.get("failed", 0),
        given_up=counts.get("dead", 0),
    )


def producing_job(connection: Connection, study: str, uids: Sequence[str]) -> str | None:
    """Return the key of the newest job of a study that produced one of these objects.

    Return None unless the jobs of the study produced all of them.
    """
    made = connection.execute(
        "SELECT DISTINCT ON (sop_instance_uid) j.key, j.created_at FROM glionode_outbox o "
        "JOIN glionode_jobs j ON j.key = o.job_key "
        "WHERE j.study_instance_uid = %s AND sop_instance_uid = ANY(%s)",
        (study, list(uids)),
    ).fetchall()
    return str(max(made, key=lambda row: row[1])[0]) if uids and len(made) == len(set(uids)) else None
