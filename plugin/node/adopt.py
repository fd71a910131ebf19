"""Take over results that are on the disk and that the database does not know, because it was lost or is an older one.

Each result becomes the job that made it, by its report: with its key, its images and the start of its analysis. An
operator says which destinations have it already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from models.package import IntendedUse
from plugin.archive.found_results import FoundResult, damaged_files, find_results
from plugin.archive.report_reader import ReportedJob
from plugin.archive.store import EmbeddedArchive, results_folder
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject
from plugin.database.pool import Connection, Database
from plugin.jobs import rows, unadopted
from plugin.jobs.adopted_deliveries import Adoption, adopt_deliveries
from plugin.jobs.job import JobSource, JobState, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.prior_results import record_for_later_jobs
from plugin.settings.sections import Settings

_STATES = {JobState.SEGMENTED, JobState.NOT_ELIGIBLE, JobState.FAILED, JobState.UNCHANGED}
"""How a job with a report ended."""
_MADE_OF_OTHER_IMAGES = "an older version made it of images that have changed since"


@dataclass(frozen=True, slots=True)
class AdoptedResult:
    """A result that was found, or would be adopted without `dry_run`."""

    job: str
    """The key of its job; empty where its report does not name one and the images are others by now."""
    folder: str
    started: str | None
    """When its analysis began, ISO 8601 with offset; None in a result of an older version."""
    status: str
    objects: int
    problem: str | None
    """Why it is not adopted as it is, and what becomes of it; None if it is whole."""


@dataclass(frozen=True, slots=True)
class AdoptedStudy:
    """What was found of a study."""

    study_instance_uid: str
    images: int
    """MR images in the node's own archive."""
    results: tuple[AdoptedResult, ...]
    """Oldest first; without any the study is taken as if it had just come."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A result and the job that made it."""

    of: ReportedJob
    result: FoundResult
    damaged: tuple[str, ...]


def adopt_studies(
    settings: Settings, database: Database, studies: Sequence[str], deliver_to: frozenset[str], dry_run: bool
) -> tuple[AdoptedStudy, ...]:
    """Adopt those of `studies` that wait for it; all that wait if none is named. Return what was found.

    Their current results are queued for the destinations `deliver_to`; all others are taken to have them.
    """
    with database.pool.connection() as connection:
        waiting = unadopted.held_studies(connection)
    found = []
    for study in waiting:
        if studies and study not in studies:
            continue
        inputs = read_inputs(EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0), study)
        jobs, others = _jobs_of(settings, study, inputs)
        if not dry_run:
            with database.pool.connection() as connection:
                _adopt(connection, settings, study, jobs, inputs, deliver_to)
        results = (*others, *(_describe(job) for job in jobs))
        found.append(AdoptedStudy(study, len(inputs.paths), results))
    return tuple(found)


def _jobs_of(settings: Settings, study: str, inputs: StudyInputs) -> tuple[list[_Job], list[AdoptedResult]]:
    """Return the jobs of a study by its results, each with the best of its folders, and the results without a job."""
    jobs: dict[str, _Job] = {}
    others: list[AdoptedResult] = []
    for result in find_results(settings.data_dir, study):
        of = result.report.job or _job_of_older_version(result, study, inputs)
        if of is None or result.report.status not in _STATES:
            why = "its report is damaged" if result.report.status not in _STATES else _MADE_OF_OTHER_IMAGES
            others.append(_describe_result(result, "", None, f"{why}; it stays on the disk and is not taken"))
            continue
        job = _Job(of, result, damaged_files(result))
        if of.key not in jobs or _rank(job) >= _rank(jobs[of.key]):  # several attempts, of which the latest counts
            jobs[of.key] = job
    return sorted(jobs.values(), key=lambda job: (job.of.queued_at, job.of.started_at)), others


def _rank(job: _Job) -> tuple[bool, bool]:
    """Return what makes an attempt better than others: files that are whole, and a segmentation."""
    return not job.damaged, job.result.report.status == JobState.SEGMENTED


def _job_of_older_version(result: FoundResult, study: str, inputs: StudyInputs) -> ReportedJob | None:
    """Return the job of a result whose report does not name one, if the images are those that it was made of.

    The name of the folder begins with a hash of the job's key.
    """
    job = new_job(study, inputs.sop_instance_uids, result.report.model_sha256, replacements=inputs.replacements)
    if not result.folder.name.startswith(results_folder(result.folder, study, job.key).name):
        return None
    return ReportedJob(
        *(job.key, job.instances_sha256, job.model_sha256, len(inputs.paths), job.source, job.replacements, 0),
        queued_at=result.written_at,
        started_at=result.written_at,
    )


def _adopt(
    connection: Connection,
    settings: Settings,
    study: str,
    jobs: Sequence[_Job],
    inputs: StudyInputs,
    deliver_to: frozenset[str],
) -> None:
    """Write the rows of a study's jobs and let it go on."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (study,))  # the lock that JobQueue takes, too
    segmented = [job for job in jobs if _state(job, inputs)[0] is JobState.SEGMENTED]
    for job in jobs:
        state, reason = _state(job, inputs)
        _write_job(connection, study, job, state, reason)
        detail = f"found on the disk, of an analysis that began {_iso(job.of.started_at)}: {state}"
        if state is JobState.SEGMENTED:
            # Images that others took the place of since then may be of another patient.
            current = job is segmented[-1] and job.of.replacements >= inputs.replacements
            choice = Adoption(deliver_to, current, job.result.report.empty and settings.delivery.hold_empty)
            states = adopt_deliveries(
                connection, job.of.key, _objects(job), settings.destinations, _intended_use(job), choice
            )
            detail += f", {len(job.result.report.written)} objects; {_deliveries(states)}"
            record_for_later_jobs(connection, job.of.key, job.result.report)
            row = rows.lock(connection, job.of.key)
            assert row is not None, "it was just written"
            rows.supersede(connection, row, frozenset(JobState))
        audit_log.record(connection, AuditEvent.ADOPTED, AuditSubject(study, job.of.key), detail)
    unadopted.release(connection, study)


def _state(job: _Job, inputs: StudyInputs) -> tuple[JobState, str | None]:
    """Return the state in which a job is adopted, and the reason. A damaged result is computed again where it can be.

    Then it has the start that is recorded, and so makes the same objects.
    """
    if not job.damaged:
        return JobState(job.result.report.status), job.result.report.reason
    if inputs.paths or job.of.source == JobSource.ORTHANC:
        return JobState.QUEUED, None
    files = ", ".join(job.damaged[:3])
    return JobState.FAILED, f"Files of its result are missing or damaged ({files}), and its images are gone; send them."


def _write_job(connection: Connection, study: str, job: _Job, state: JobState, reason: str | None) -> None:
    """Insert the row of a job, or complete the one that an older state of the database has of it."""
    over = state is not JobState.QUEUED
    of = job.of
    values = {
        **{"key": of.key, "study": study, "instances": of.instances_sha256, "model": of.model_sha256},
        **{"images": of.image_count, "source": of.source, "replacements": of.replacements, "again": of.repetition},
        **{"created": of.queued_at, "started": of.started_at, "state": state, "reason": reason},
        **{"segmented": state is JobState.SEGMENTED, "same_as": job.result.report.same_as},
        **{"finished": job.result.written_at if over else None, "path": str(job.result.folder) if over else None},
    }
    connection.execute(
        "INSERT INTO glionode_jobs (key, study_instance_uid, instances_sha256, model_sha256, image_count, source, "
        "replacements, repetition, created_at, analysis_started_at, started_at, state, reason, finished_at, "
        "has_result, results_path, same_as) VALUES (%(key)s, %(study)s, %(instances)s, %(model)s, %(images)s, "
        "%(source)s, %(replacements)s, %(again)s, %(created)s, %(started)s, %(started)s, %(state)s, %(reason)s, "
        "%(finished)s, %(segmented)s, %(path)s, %(same_as)s) ON CONFLICT (key) DO UPDATE SET state = excluded.state, "
        "reason = excluded.reason, finished_at = excluded.finished_at, has_result = excluded.has_result, "
        "results_path = excluded.results_path, same_as = excluded.same_as, started_at = excluded.started_at, "
        "analysis_started_at = excluded.analysis_started_at WHERE glionode_jobs.finished_at IS NULL",
        values,
    )


def _objects(job: _Job) -> list[OutgoingObject]:
    return [
        OutgoingObject(each.sop_instance_uid, job.result.folder / each.file, each.sha256, each.sop_class_uid)
        for each in job.result.report.written
        if each.sop_instance_uid
    ]


def _intended_use(job: _Job) -> IntendedUse:
    """Return what the model was for that made a result; the narrowest use where its report does not say."""
    try:
        return IntendedUse(job.result.report.intended_use)
    except ValueError:
        return IntendedUse.DEMONSTRATION


def _deliveries(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} deliveries {state}" for state, count in sorted(states.items())) or "no destination"


def _describe(job: _Job) -> AdoptedResult:
    why = None
    if job.damaged:
        files = ", ".join(job.damaged[:3])
        why = f"{len(job.damaged)} files are missing or damaged ({files}); it is computed again if its images are here"
    started = None if job.result.report.job is None else _iso(job.of.started_at)
    return _describe_result(job.result, job.of.key, started, why)


def _describe_result(result: FoundResult, key: str, started: str | None, problem: str | None) -> AdoptedResult:
    report = result.report
    return AdoptedResult(key, str(result.folder), started, report.status, len(report.written), problem)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
