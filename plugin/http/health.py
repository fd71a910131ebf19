"""Check whether a process of the node is healthy, for load balancers and orchestrators; no check may take long."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plugin.database.pool import Connection
from plugin.errors import DatabaseUnavailable
from plugin.http.database_probe import DatabaseProbe
from plugin.jobs.backlog import read_since_received
from plugin.jobs.liveness import DelivererLiveness, WorkersLiveness, read_deliverers, read_workers
from plugin.jobs.procrastinate_queue import STALLED_AFTER_S

_FETCH_WITHIN_S = 60.0
"""An idle worker asks every 2 s."""
_DELIVER_WITHIN_S = 90.0
"""A lease runs out after 30 s, and another deliverer asks for it every second."""
_TURN_WITHIN_S = 900.0
"""Longer than any one object takes."""

HealthCheck = Callable[[], str | None]
"""Returns what is wrong, a sentence without UIDs; None if nothing is."""
FindTimes = Callable[[], Mapping[str, float | None]]
"""Returns how many seconds ago work last moved, by what moved; None where it never did."""
FindWarnings = Callable[[], Mapping[str, str]]
"""Returns what will need a person though nothing has failed, sentences without UIDs, by name."""


@dataclass(frozen=True, slots=True)
class Health:
    """The results of all checks at one moment."""

    checks: Mapping[str, str | None]
    warnings: Mapping[str, str] = field(default_factory=dict)
    seconds_since: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether no check found anything wrong."""
        return not any(self.checks.values())

    def as_json(self) -> dict[str, object]:
        """Return the body of a response to /health."""
        return {
            "healthy": self.healthy,
            "status": ("warning" if self.warnings else "ok") if self.healthy else "failing",
            "checks": {name: wrong or "ok" for name, wrong in self.checks.items()},
            "warnings": dict(self.warnings),
            "seconds_since": {name: since and round(since, 1) for name, since in self.seconds_since.items()},
        }


def run_checks(
    checks: Mapping[str, HealthCheck], find_warnings: FindWarnings = dict, find_times: FindTimes = dict
) -> Health:
    """Run all checks now, find the warnings, and read when work last moved."""
    return Health({name: check() for name, check in checks.items()}, find_warnings(), find_times())


def check_database(probe: DatabaseProbe) -> str | None:
    """Check whether the database answers."""
    try:
        probe.read(lambda connection: connection.execute("SELECT 1"))
    except DatabaseUnavailable as exc:
        return str(exc)
    return None


def check_workers(probe: DatabaseProbe) -> str | None:
    """Check whether any worker, on any host, has sent a heartbeat lately, and whether idle ones fetch what is due."""
    try:
        return find_stalled_workers(probe.read(read_workers))
    except DatabaseUnavailable:
        return "The database, which has the workers' heartbeats, does not answer."


def find_stalled_workers(workers: WorkersLiveness) -> str | None:
    """Return what is wrong with the workers; None if nothing is."""
    if not workers.live:
        return (
            f"No worker has sent a heartbeat for {STALLED_AFTER_S:g} s. Is one running, and does its log say that the "
            "model was loaded?"
        )
    moved = [since for since in (workers.since_started_s, workers.since_ended_s) if since is not None]
    since_moved_s = min(moved, default=math.inf)
    due_s = workers.oldest_due_s or 0
    if workers.idle and min(due_s, since_moved_s) > _FETCH_WITHIN_S:
        return (
            f"A job has been due for {due_s:.0f} s, and no worker fetches it, though {workers.idle} are idle. Restart "
            "`glionode work`, or `glionode serve`."
        )
    return None


def check_deliveries(probe: DatabaseProbe, destinations: Sequence[str]) -> str | None:
    """Check whether something sends to each of these destinations, where objects are due, and does not stand still."""
    try:
        return find_stalled_deliveries(probe.read(lambda connection: read_deliverers(connection, destinations)))
    except DatabaseUnavailable:
        return "The database, which has the deliveries, does not answer."


def find_stalled_deliveries(deliverers: Mapping[str, DelivererLiveness]) -> str | None:
    """Return what is wrong with the deliverers of destinations; None if nothing is."""
    wrong = []
    for name, each in deliverers.items():
        due_s = each.oldest_due_s or 0
        if not each.owner and due_s > _DELIVER_WITHIN_S:
            wrong.append(
                f"Objects have been due for {name} for {due_s:.0f} s, and no process sends to it. Is `glionode "
                "deliver` running, with this destination in its settings?"
            )
        elif each.owner and each.since_turn_s > _TURN_WITHIN_S:
            wrong.append(
                f"What sends to {name} on {each.owner} has stood still for {each.since_turn_s:.0f} s. Restart that "
                "process; another takes over then, or it goes on itself."
            )
    return " ".join(wrong) or None


def seconds_since(probe: DatabaseProbe, destinations: Sequence[str]) -> dict[str, float | None]:
    """Return how many seconds ago work last moved, by what moved; None where it never did."""
    since: dict[str, float | None] = {"database_answered": probe.seconds_since_answer}
    try:
        workers = probe.read(read_workers)
        deliverers = probe.read(lambda connection: read_deliverers(connection, destinations))
        since_received_s = probe.read(read_since_received)
    except DatabaseUnavailable:
        return since
    since |= {
        "worker_heartbeat": workers.since_heartbeat_s,
        "job_started": workers.since_started_s,
        "job_ended": workers.since_ended_s,
        "images_received": since_received_s,
    }
    return since | {f"deliver {name}": each.since_turn_s if each.owner else None for name, each in deliverers.items()}


def count_live_workers(connection: Connection) -> int:
    """Return how many workers have sent a heartbeat lately."""
    row = connection.execute(
        "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)",
        (STALLED_AFTER_S,),
    ).fetchone()
    return int(row[0]) if row else 0


def check_free_space(folder: Path, minimum_free_mb: int) -> str | None:
    """Check whether the disk of a folder has at least `minimum_free_mb` MiB of free space."""
    free_mb = shutil.disk_usage(folder).free >> 20
    return None if free_mb >= minimum_free_mb else f"{free_mb} MiB are free, the minimum is {minimum_free_mb} MiB."
