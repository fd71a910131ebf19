"""Whether a process of the node is well: a few questions, each answered by nothing, or by what is wrong.

Asked over HTTP by load balancers and orchestrators, so nothing here may take long.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from plugin.jobs.procrastinate_queue import STALLED_AFTER_S

_DATABASE_S = 1.0

Question = Callable[[], str | None]
"""What is wrong, a sentence without UIDs; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answers at a moment."""

    checks: Mapping[str, str | None]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.checks.values())

    def as_json(self) -> dict[str, object]:
        """For HTTP."""
        return {"healthy": self.healthy, "checks": {name: why or "ok" for name, why in self.checks.items()}}


def ask(questions: Mapping[str, Question]) -> Health:
    """Ask everything now."""
    return Health({name: question() for name, question in questions.items()})


def database_answers(pool: ConnectionPool) -> str | None:
    """Whether the database does."""
    try:
        with pool.connection(timeout=_DATABASE_S) as connection:
            connection.execute("SELECT 1")
    except (psycopg.Error, PoolTimeout):
        return "The database does not answer."
    return None


def worker_seen(pool: ConnectionPool) -> str | None:
    """Whether any worker, on whatever host, has said lately that it lives."""
    try:
        with pool.connection(timeout=_DATABASE_S) as connection:
            if live_workers(connection):
                return None
    except (psycopg.Error, PoolTimeout):
        return "The database, which knows, does not answer."
    return f"No worker was seen for {STALLED_AFTER_S:g} s; does its model load?"


def live_workers(connection: psycopg.Connection) -> int:
    """How many workers have said lately that they live."""
    row = connection.execute(
        "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)",
        (STALLED_AFTER_S,),
    ).fetchone()
    return int(row[0]) if row else 0


def room_left(folder: Path, minimum_free_mb: int) -> str | None:
    """Whether the disk has more free space than its floor."""
    free_mb = shutil.disk_usage(folder).free >> 20
    return None if free_mb >= minimum_free_mb else f"{free_mb} MiB are free, the floor is {minimum_free_mb} MiB."
