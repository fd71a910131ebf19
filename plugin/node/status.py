"""How the node is doing, read from outside: the lock, the archive's folders and the database. Changes nothing."""

import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg_pool import ConnectionPool

from models.package import IntendedUse, PackageBroken, find_package
from plugin.archive.quarantine import count_quarantined
from plugin.archive.store import is_uid
from plugin.commitment.pending_requests import count_pending
from plugin.database.pool import connected, database_url
from plugin.errors import DatabaseUnavailable
from plugin.listener.refusals import read_refusals
from plugin.node.lock import RunningNode, running_node
from plugin.settings.check import may_receive, refusal
from plugin.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How delivery to a destination stands."""

    name: str
    objects: dict[str, int]
    """Objects by outbox state; states without objects are left out."""
    last_error: str | None
    refused_because: str | None
    """Why nothing is sent there; None where results are sent."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The latest thing that went wrong in a place."""

    place: str
    message: str
    at: str
    """ISO 8601 with offset."""


@dataclass(frozen=True, slots=True)
class Status:
    """The node at a moment."""

    running: RunningNode | None
    data_dir: str
    free_mb: int
    receiving: bool
    """Whether instances are taken: the node runs and the disk is above its floor."""
    model: str
    studies_received: int
    quarantined: int
    """Copies of unreadable objects that are kept."""
    commitments_pending: int
    """Requests of senders for storage commitment that are not reported on yet."""
    refused: dict[str, int]
    """Peers that were refused since the node's start, by reason; reasons without any are left out."""
    database_answers: bool
    jobs: dict[str, int]
    """Jobs by state; states without jobs are left out. Empty where the database does not answer."""
    urgent_waiting: int
    """How many of those that wait are urgent."""
    destinations: tuple[DestinationStatus, ...]
    troubles: tuple[Trouble, ...]
    """Latest first."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def read_status(settings: Settings) -> Status:
    """How the node of these settings is doing, whether it runs or not. Raises SettingsWrong for another user's node."""
    node = running_node(settings.data_dir)
    free_mb = _free_mb(settings.data_dir)
    try:
        package = find_package(settings.model.name, settings.installed_models_dir)
        model = f"{package.name} {package.version} ({package.intended_use})"
        intended_use = package.intended_use
    except PackageBroken as exc:
        model, intended_use = f"unusable: {exc}", None
    jobs: dict[str, int] = {}
    urgent_waiting = 0
    outbox: dict[str, dict[str, int]] = {}
    errors: dict[str, str] = {}
    troubles: tuple[Trouble, ...] = ()
    answers = False
    if node is not None or settings.database.url:
        try:
            with connected(database_url(settings)) as pool:
                jobs, outbox, errors, troubles = _read(pool)
                urgent_waiting = _urgent_waiting(pool)
                answers = True
        except DatabaseUnavailable as exc:
            troubles = (Trouble("database", str(exc), ""),)
    return Status(
        running=node,
        data_dir=str(settings.data_dir),
        free_mb=free_mb,
        receiving=node is not None and free_mb >= settings.storage.minimum_free_mb,
        model=model,
        studies_received=_studies_received(settings.data_dir),
        quarantined=count_quarantined(settings.data_dir),
        commitments_pending=count_pending(settings.data_dir),
        refused=read_refusals(settings.data_dir),
        database_answers=answers,
        jobs=jobs,
        urgent_waiting=urgent_waiting,
        destinations=_destinations(settings, intended_use, outbox, errors),
        troubles=troubles,
    )


def _destinations(
    settings: Settings,
    intended_use: IntendedUse | None,
    objects: dict[str, dict[str, int]],
    errors: dict[str, str],
) -> tuple[DestinationStatus, ...]:
    known = {destination.name: destination for destination in settings.destinations}
    found = []
    for name in [*known, *sorted(objects.keys() - known.keys())]:
        refused = "it is no destination of the settings any more; its objects wait"
        if name in known:
            refused = "" if may_receive(known[name], intended_use) else refusal(known[name])
        found.append(DestinationStatus(name, objects.get(name, {}), errors.get(name), refused or None))
    return tuple(found)


def _read(
    pool: ConnectionPool,
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, str], tuple[Trouble, ...]]:
    with pool.connection() as connection:
        jobs = connection.execute("SELECT state, count(*) FROM glionode_jobs GROUP BY state ORDER BY state").fetchall()
        objects = connection.execute(
            "SELECT destination, state, count(*) FROM glionode_outbox GROUP BY destination, state ORDER BY 1, 2"
        ).fetchall()
        errors = connection.execute(
            "SELECT DISTINCT ON (destination) destination, last_error FROM glionode_outbox "
            "WHERE state IN ('failed', 'dead') OR asks > 0 ORDER BY destination, next_try DESC"
        ).fetchall()
        failed = connection.execute(
            "SELECT study_instance_uid, reason, finished_at FROM glionode_jobs WHERE state = 'failed' "
            "ORDER BY finished_at DESC LIMIT 5"
        ).fetchall()
        noted = connection.execute("SELECT place, message, at FROM glionode_troubles").fetchall()
    by_destination: dict[str, dict[str, int]] = {}
    for destination, state, count in objects:
        by_destination.setdefault(destination, {})[state] = count
    rows: list[tuple[str, str, datetime]] = [(place, message, at) for place, message, at in noted]
    rows += [(f"study {uid}", reason or "", at) for uid, reason, at in failed]
    rows.sort(key=lambda row: row[2], reverse=True)
    troubles = tuple(Trouble(place, message, at.isoformat(timespec="seconds")) for place, message, at in rows)
    return dict(jobs), by_destination, {name: error or "" for name, error in errors}, troubles


def _urgent_waiting(pool: ConnectionPool) -> int:
    with pool.connection() as connection:
        row = connection.execute("SELECT count(*) FROM glionode_jobs WHERE state = 'queued' AND urgent").fetchone()
    return int(row[0]) if row else 0


def _free_mb(data_dir: Path) -> int:
    folder = data_dir
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free >> 20


def _studies_received(data_dir: Path) -> int:
    archive = data_dir / "archive"
    return sum(1 for entry in archive.iterdir() if is_uid(entry.name)) if archive.is_dir() else 0
