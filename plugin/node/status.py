"""Read the status of a node from outside: from its lock, the folders of its archive, and its database."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg_pool import ConnectionPool

from models.package import IntendedUse, PackageBroken, find_package
from plugin.archive.quarantine import count_quarantined
from plugin.archive.store import is_uid
from plugin.commitment.pending_requests import count_pending
from plugin.database.pool import Connection, database_url, open_pool
from plugin.database.schema import readable_schema
from plugin.errors import DatabaseUnavailable
from plugin.http.warning_checks import find_database_warnings, find_file_warnings, free_mb_of
from plugin.jobs.destination_pauses import DestinationPause, read_pauses
from plugin.jobs.queries import (
    BrokenOffObject,
    count_deliveries_by_state,
    count_jobs_by_state,
    count_urgent_jobs,
    list_broken_off,
)
from plugin.listener.refusals import read_refusals
from plugin.node.lock import RunningNode, running_node
from plugin.settings.check import may_receive, refusal
from plugin.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """The state of deliveries to a destination."""

    name: str
    objects: dict[str, int]
    """Objects by outbox state; states without objects are left out."""
    last_error: str | None
    refused_because: str | None
    """Why nothing is sent to it; None if results are sent."""
    unreachable: str | None = None
    """Since when it cannot be reached, why, and when it is tried again; None where it can."""
    broken_off: tuple[BrokenOffObject, ...] = ()
    """Objects with which it breaks the connection off. They go alone, and others go on."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The latest problem of a place, such as a worker or a study."""

    place: str
    message: str
    at: str
    """ISO 8601 with offset."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The status of a node."""

    running: RunningNode | None
    data_dir: str
    free_mb: int
    receiving: bool
    """Whether instances are accepted: the node runs and the disk has storage.minimum_free_mb of free space."""
    model: str
    studies_received: int
    quarantined: int
    """The number of unreadable objects of which a copy is kept."""
    commitments_pending: int
    """The number of storage commitment requests without a report so far."""
    refused: dict[str, int]
    """Peers that were refused since the node's start, by reason; reasons without any are left out."""
    database_answers: bool
    jobs: dict[str, int]
    """Jobs by state; states without jobs are left out. Empty if the database does not answer."""
    urgent_waiting: int
    """The number of queued jobs that are urgent."""
    destinations: tuple[DestinationStatus, ...]
    troubles: tuple[Trouble, ...]
    """Latest first."""
    warnings: dict[str, str] = field(default_factory=dict)
    """What will need a person, a sentence each, by name; those of /health."""


@dataclass(frozen=True, slots=True)
class _DatabaseStatus:
    """The part of a node's status that its database knows."""

    answers: bool = False
    jobs: dict[str, int] = field(default_factory=dict)
    urgent_waiting: int = 0
    deliveries: dict[str, dict[str, int]] = field(default_factory=dict)
    """Objects by outbox state, for each destination that has any."""
    errors: dict[str, str] = field(default_factory=dict)
    """The latest delivery error of each destination that has one."""
    pauses: dict[str, DestinationPause] = field(default_factory=dict)
    broken_off: tuple[BrokenOffObject, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    warnings: dict[str, str] = field(default_factory=dict)


def read_status(settings: Settings) -> NodeStatus:
    """Return the status of the node of these settings, whether it runs or not.

    Raises:
        SettingsWrong: the data folder belongs to another user.
    """
    node = running_node(settings.data_dir)
    free_mb = free_mb_of(settings.data_dir)
    try:
        package = find_package(settings.model.name, settings.installed_models_dir)
        model = f"{package.name} {package.version} ({package.intended_use})"
        intended_use = package.intended_use
    except PackageBroken as exc:
        model, intended_use = f"unusable: {exc}", None
    database = _DatabaseStatus()
    if node is not None or settings.database.url:
        try:
            with open_pool(database_url(settings)) as pool, readable_schema(pool) as older:
                database = _read_database(pool)
                with pool.connection() as connection:
                    database = replace(database, warnings=find_database_warnings(settings.alerts, connection))
                if older:
                    raise DatabaseUnavailable(older)
        except DatabaseUnavailable as exc:
            database = replace(database, troubles=(Trouble("database", str(exc), ""), *database.troubles))
    return NodeStatus(
        running=node,
        data_dir=str(settings.data_dir),
        free_mb=free_mb,
        receiving=node is not None and free_mb >= settings.storage.minimum_free_mb,
        model=model,
        studies_received=_studies_received(settings.data_dir),
        quarantined=count_quarantined(settings.data_dir),
        commitments_pending=count_pending(settings.data_dir),
        refused=read_refusals(settings.data_dir),
        database_answers=database.answers,
        jobs=database.jobs,
        urgent_waiting=database.urgent_waiting,
        destinations=_destinations(settings, intended_use, database),
        troubles=database.troubles,
        warnings=find_file_warnings(settings) | database.warnings,
    )


def _destinations(
    settings: Settings, intended_use: IntendedUse | None, database: _DatabaseStatus
) -> tuple[DestinationStatus, ...]:
    known = {destination.name: destination for destination in settings.destinations}
    found = []
    for name in [*known, *sorted(database.deliveries.keys() - known.keys())]:
        refused = (
            "it is not in the settings any more; its objects remain, and `glionode resend JOB --to DEST` gives them to "
            "another"
        )
        if name in known:
            refused = "" if may_receive(known[name], intended_use) else refusal(known[name])
        objects, error = database.deliveries.get(name, {}), database.errors.get(name)
        away = _unreachable(database.pauses[name]) if name in database.pauses else None
        broken_off = tuple(each for each in database.broken_off if each.destination == name)
        found.append(DestinationStatus(name, objects, error, refused or None, away, broken_off))
    return tuple(found)


def _unreachable(pause: DestinationPause) -> str:
    since, again = (at.isoformat(timespec="seconds") for at in (pause.since, pause.next_try))
    times = "once" if pause.failures == 1 else f"{pause.failures} times"
    return f"it could not be reached {times} since {since}, and is tried again at {again}: {pause.error}"


def _read_database(pool: ConnectionPool) -> _DatabaseStatus:
    with pool.connection() as connection:
        jobs = count_jobs_by_state(connection)
        errors = connection.execute(
            "SELECT DISTINCT ON (destination) destination, last_error FROM glionode_outbox "
            "WHERE state IN ('failed', 'dead') OR asks > 0 ORDER BY destination, next_try DESC"
        ).fetchall()
        return _DatabaseStatus(
            answers=True,
            jobs={state: count for state, count in sorted(jobs.items()) if count},
            urgent_waiting=count_urgent_jobs(connection),
            deliveries=count_deliveries_by_state(connection),
            errors={name: error or "" for name, error in errors},
            pauses=read_pauses(connection),
            broken_off=list_broken_off(connection),
            troubles=_troubles(connection),
        )


def _troubles(connection: Connection) -> tuple[Trouble, ...]:
    """Return the stored problems of all places and the latest failed jobs, latest first."""
    rows = connection.execute(
        "SELECT place, message, at FROM glionode_troubles UNION ALL "
        "(SELECT 'study ' || study_instance_uid, coalesce(reason, ''), finished_at FROM glionode_jobs "
        "WHERE state = 'failed' ORDER BY finished_at DESC LIMIT 5) ORDER BY at DESC"
    ).fetchall()
    return tuple(Trouble(place, message, at.isoformat(timespec="seconds")) for place, message, at in rows)


def _studies_received(data_dir: Path) -> int:
    archive = data_dir / "archive"
    return sum(1 for entry in archive.iterdir() if is_uid(entry.name)) if archive.is_dir() else 0
