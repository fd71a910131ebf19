"""Send again what was delivered, or give a destination what was made before it was in the settings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from models.package import IntendedUse
from pipeline.errors import GlionodeError, ModelUnusable
from plugin.archive.report_reader import read_report
from plugin.database.pool import Connection, Database
from plugin.http.transfer import sha256_of
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queries import find_job_key
from plugin.jobs.resend_rows import (
    JobWithResult,
    Resending,
    Target,
    job_with_result,
    jobs_since,
    lock_job,
    read_made_objects,
    resend_result,
)
from plugin.node.operations import OperationRefused
from plugin.settings.check import may_receive, refusal
from plugin.settings.destinations import AnyDestination
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package


class UnknownDestination(GlionodeError):
    """A name that no destination of the settings has."""


@dataclass(frozen=True, slots=True)
class ResendRequest:
    """What is to be sent again."""

    job: str = ""
    """The key of a job or its beginning, or a study instance UID; empty: all since a time."""
    since: datetime | None = None
    destinations: tuple[str, ...] = ()
    """Empty: all that the objects were for."""


@dataclass(frozen=True, slots=True)
class ResendOutcome:
    """What was queued, and what was not and why."""

    jobs: tuple[str, ...] = ()
    """Jobs of which something was queued."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Deliveries by destination."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Deliveries by state: "waiting", "held", "withdrawn" or "refused"."""
    refused_by: tuple[str, ...] = ()
    """Destinations that the settings refuse, each as a sentence that says what to do."""
    not_in_settings: tuple[str, ...] = ()
    """Destinations that objects were for and that the settings have no more."""
    without_result: Mapping[str, int] = field(default_factory=dict)
    """Jobs by the reason for which nothing of them can be sent, as a clause."""


def resend(settings: Settings, database: Database, request: ResendRequest, dry_run: bool = False) -> ResendOutcome:
    """Queue results for destinations again; with `dry_run` change nothing, and return what it would come to.

    A destination that is named gets objects, too, that never were for it. What is held stays until it is released, what
    was withdrawn is never sent, and a result that another one superseded is over.

    Raises:
        UnknownDestination: a named destination is not in the settings.
        NoSuchJob: no job, or more than one, matches the name.
        OperationRefused: the result of the named job is not there (any more), or it is over.
    """
    known = {each.name: each for each in settings.destinations}
    if missing := [name for name in request.destinations if name not in known]:
        raise UnknownDestination(
            f"The settings have no destination {missing[0]!r}; they have: {', '.join(known) or 'none'}."
        )
    with database.pool.connection() as connection:
        if request.job:
            key = find_job_key(connection, request.job)
            row = connection.execute("SELECT study_instance_uid FROM glionode_jobs WHERE key = %s", (key,)).fetchone()
            is_study = row == (request.job,)
            keys: tuple[str, ...] = (job_with_result(connection, key, request.job if is_study else ""),)
        else:
            assert request.since is not None, "the command asks for one of both"
            keys = jobs_since(connection, request.since)
    tally = _Tally()
    for key in keys:
        with database.pool.connection() as connection, connection.transaction(force_rollback=dry_run):
            _resend_job(connection, settings, known, lock_job(connection, key), request, tally)
    return tally.outcome()


@dataclass(slots=True)
class _Tally:
    """What was counted so far."""

    jobs: list[str] = field(default_factory=list)
    deliveries: Counter[tuple[str, Resending]] = field(default_factory=Counter)
    refused_by: dict[str, str] = field(default_factory=dict)
    not_in_settings: set[str] = field(default_factory=set)
    without_result: Counter[str] = field(default_factory=Counter)

    def outcome(self) -> ResendOutcome:
        queued: Counter[str] = Counter()
        left_out: Counter[str] = Counter()
        for (name, outcome), count in self.deliveries.items():
            if outcome is Resending.QUEUED:
                queued[name] += count
            else:
                left_out[outcome.value] += count
        refused = tuple(self.refused_by.values())
        gone = tuple(sorted(self.not_in_settings))
        return ResendOutcome(tuple(self.jobs), dict(queued), dict(left_out), refused, gone, dict(self.without_result))


def _resend_job(
    connection: Connection,
    settings: Settings,
    known: Mapping[str, AnyDestination],
    job: JobWithResult,
    request: ResendRequest,
    tally: _Tally,
) -> None:
    made = read_made_objects(connection, job.key)
    held = settings.delivery.hold_empty and job.results_path is not None and read_report(Path(job.results_path)).empty
    objects = made.objects or _objects_on_disk(job)
    if why := _why_not(job, objects, bool(made.destinations or request.destinations)):
        if request.job:
            raise OperationRefused(f"Nothing of job {job.key} can be sent: {why}.")
        tally.without_result[why if job.superseded_by is None else "its result was superseded"] += 1
        return
    names = request.destinations or tuple(sorted(made.destinations))
    tally.not_in_settings.update(name for name in names if name not in known)
    use = made.intended_use or _use_of_served_model(settings, job)
    targets = [
        Target(name, may_receive(known[name], use), create=bool(request.destinations))
        for name in dict.fromkeys(names)
        if name in known
    ]
    counts = resend_result(connection, job.key, objects, targets, held, use)
    tally.deliveries += counts
    tally.refused_by |= {each.name: refusal(known[each.name]) for each in targets if not each.allowed}
    if any(outcome is Resending.QUEUED for _, outcome in counts):
        tally.jobs.append(job.key)


def _why_not(job: JobWithResult, objects: tuple[OutgoingObject, ...], has_destination: bool) -> str:
    """Return why nothing of a job can be sent, as a clause; empty where it can."""
    if job.purged_at is not None:
        return (
            f"its images and results were purged on {job.purged_at:%Y-%m-%d}; have the study sent to the node again, "
            "which segments it then"
        )
    if job.superseded_by is not None:
        return f"its result was superseded by job {job.superseded_by}; name that one, or the study"
    if not objects or job.results_path is None:
        return f"it is {job.state}, and no result of it is here"
    if not has_destination:
        return "its result was for no destination; name one with --to"
    return ""


def _objects_on_disk(job: JobWithResult) -> tuple[OutgoingObject, ...]:
    """Return the objects of a result that was for no destination, where this host has its files."""
    if job.results_path is None:
        return ()
    folder = Path(job.results_path)
    return tuple(
        OutgoingObject(each.sop_instance_uid, folder / each.file, sha256_of(folder / each.file).hex())
        for each in read_report(folder).written
        if each.sop_instance_uid and (folder / each.file).is_file()
    )


def _use_of_served_model(settings: Settings, job: JobWithResult) -> IntendedUse | None:
    """Return what the model of a job is for, where it is the one that the settings name; None: unknown."""
    try:
        package = served_package(settings.model.name, settings.installed_models_dir)
    except ModelUnusable:
        return None
    return package.intended_use if package.weights_sha256 == job.model_sha256 else None
