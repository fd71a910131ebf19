"""Check whether a process of the node is healthy, for load balancers and orchestrators; no check may take long."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.jobs.procrastinate_queue import STALLED_AFTER_S

_DATABASE_TIMEOUT_S = 1.0

HealthCheck = Callable[[], str | None]
"""Returns what is wrong, a sentence without UIDs; None if nothing is."""
FindWarnings = Callable[[], Mapping[str, str]]
"""Returns what will need a person though nothing has failed, sentences without UIDs, by name."""


@dataclass(frozen=True, slots=True)
class Health:
    """The results of all checks at one moment."""

    checks: Mapping[str, str | None]
    warnings: Mapping[str, str] = field(default_factory=dict)

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
        }


def run_checks(checks: Mapping[str, HealthCheck], find_warnings: FindWarnings = dict) -> Health:
    """Run all checks now, and find the warnings."""
    return Health({name: check() for name, check in checks.items()}, find_warnings())


def check_database(pool: ConnectionPool) -> str | None:
    """Check whether the database answers."""
    try:
        with pool.connection(timeout=_DATABASE_TIMEOUT_S) as connection:
            connection.execute("SELECT 1")
    except (psycopg.Error, PoolTimeout):
        return "The database does not answer."
    return None


def check_workers(pool: ConnectionPool) -> str | None:
    """Check whether any worker, on any host, has sent a heartbeat lately."""
    try:
        with pool.connection(timeout=_DATABASE_TIMEOUT_S) as connection:
            if count_live_workers(connection):
                return None
    except (psycopg.Error, PoolTimeout):
        return "The database, which has the workers' heartbeats, does not answer."
    return (
        f"No worker has sent a heartbeat for {STALLED_AFTER_S:g} s. Is one running, and does its log say that the "
        "model was loaded?"
    )


def count_live_workers(connection: psycopg.Connection) -> int:
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
