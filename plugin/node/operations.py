"""Carry out users' requests on jobs: retry, cancel and force.

They change the database. A running node notices the change by itself; one that does not run acts at its next start.
"""

from dataclasses import dataclass

from pipeline.errors import GlionodeError
from plugin.archive.store import EmbeddedArchive, is_uid
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.job import Cancelled, Ignore, JobSource, JobState, Restart, Retried, new_job
from plugin.jobs.outbox import OutboxState
from plugin.jobs.queries import find_job_key, list_jobs, show_job
from plugin.jobs.queue import JobQueue
from plugin.jobs.study_deliveries import EarlierDeliveries, earlier_deliveries
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package


class OperationRefused(GlionodeError):
    """The state of the job or study does not allow the operation."""


@dataclass(frozen=True, slots=True)
class RetryOutcome:
    """The jobs and deliveries that are retried."""

    jobs: tuple[str, ...]
    """Keys of the jobs that were queued again."""
    deliveries: int
    """The number of deliveries (an object to a destination) that are due now."""


def retry_job(database: Database, name: str) -> RetryOutcome:
    """Queue a failed or cancelled job again, and retry its failed deliveries.

    Raises:
        NoSuchJob: no job, or more than one, matches `name`.
        OperationRefused: neither the job nor a delivery of it failed, or the job was purged.
    """
    queue = JobQueue(database)
    with database.pool.connection() as connection:
        job = show_job(connection, name).job
        if job.purged_at:
            raise OperationRefused(f"The images and results of job {job.key} were purged; send the study again.")
        key = job.key
        deliveries = outbox.retry(connection, (OutboxState.DEAD, OutboxState.FAILED), key)
    restarted = isinstance(queue.apply_request(key, Retried()), Restart)
    if restarted or deliveries:
        _audit(database, key, f"retried, {deliveries} deliveries")
    if not restarted and not deliveries:
        raise OperationRefused(
            f"Job {key} is {_state(queue, key)} and none of its deliveries failed, so there is nothing to retry. "
            f"`glionode resend {key}` sends its result again, `glionode force STUDY --again` segments a study again."
        )
    return RetryOutcome((key,) if restarted else (), deliveries)


def retry_all(database: Database, failed: bool, dead: bool) -> RetryOutcome:
    """Retry all failed jobs and failed deliveries (`failed`), all dead deliveries (`dead`), or both."""
    queue = JobQueue(database)
    states = [state for state, included in ((OutboxState.FAILED, failed), (OutboxState.DEAD, dead)) if included]
    with database.pool.connection() as connection:
        deliveries = outbox.retry(connection, states, None)
        jobs = list_jobs(connection, JobState.FAILED, 0) if failed else ()
    keys = [job.key for job in jobs if not job.purged_at]
    restarted = tuple(key for key in keys if isinstance(queue.apply_request(key, Retried()), Restart))
    for key in restarted:
        _audit(database, key, "retried with all that failed")
    return RetryOutcome(restarted, deliveries)


def release_job(database: Database, name: str) -> tuple[str, int]:
    """Queue the held deliveries of a job; return its key and how many there are.

    Raises:
        NoSuchJob: no job, or more than one, matches `name`.
        OperationRefused: none of its deliveries is held.
    """
    with database.pool.connection() as connection:
        key = find_job_key(connection, name)
        deliveries = outbox.retry(connection, (OutboxState.HELD,), key)
    if not deliveries:
        raise OperationRefused(f"No delivery of job {key} is held; `glionode show {key}` tells their states.")
    _audit(database, key, f"released, {deliveries} deliveries")
    return key, deliveries


def cancel_job(database: Database, name: str) -> str:
    """Cancel a queued or running job and return its key. The node kills the worker of a running job within seconds.

    Raises:
        NoSuchJob: no job, or more than one, matches `name`.
        OperationRefused: the job is in a final state.
    """
    queue = JobQueue(database)
    with database.pool.connection() as connection:
        key = find_job_key(connection, name)
    if isinstance(queue.apply_request(key, Cancelled()), Ignore):
        raise OperationRefused(f"Job {key} is {_state(queue, key)}; only a queued or running job can be cancelled.")
    _audit(database, key, "cancelled")
    return key


def force_study(settings: Settings, database: Database, study_instance_uid: str, again: bool) -> str:
    """Queue a study with the images that the archive has now, complete or not. Return the key of its job.

    A study that is not in the node's own archive is searched for in the Orthanc beside it.

    Raises:
        OperationRefused: the study has no images, or it had a job with the same images and `again` is False.
        ArchiveUnavailable: Orthanc does not answer.
    """
    archive = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
    inputs = read_inputs(archive, study_instance_uid) if is_uid(study_instance_uid) else None
    source = JobSource.OWN
    if inputs is not None and not inputs.paths and settings.orthanc.url:
        inputs, source = _inputs_in_orthanc(settings, study_instance_uid), JobSource.ORTHANC
    if inputs is None or not inputs.paths:
        raise OperationRefused(f"The archive has no MR images of study {study_instance_uid!r}; send them first.")
    model = served_package(settings.model.name, settings.installed_models_dir)
    uids, replacements = inputs.sop_instance_uids, inputs.replacements
    job = new_job(study_instance_uid, uids, model.sha256, source=source, replacements=replacements)
    if (added := JobQueue(database).add(job, again=again)) is not None:
        _audit(database, added.key, "forced, once more" if again else "forced")
        return added.key
    if study_instance_uid in JobQueue(database).held_studies():
        raise OperationRefused(
            f"The database lost study {study_instance_uid}, which has images or results on the disk; run "
            f"`glionode adopt {study_instance_uid}` first, which says what was found."
        )
    raise OperationRefused(
        f"Study {study_instance_uid} is already queued or running with these images."
        if again
        else f"Study {study_instance_uid} already had a job with these images; use --again to segment it again."
    )


def deliveries_of(database: Database, study_instance_uid: str) -> EarlierDeliveries:
    """Count the deliveries of the results of a study."""
    with database.pool.connection() as connection:
        return earlier_deliveries(connection, study_instance_uid)


def _inputs_in_orthanc(settings: Settings, study_instance_uid: str) -> StudyInputs:
    from plugin.orthanc.client import OrthancClient
    from plugin.orthanc.studies import find_inputs

    client = OrthancClient(settings.orthanc, patience_s=0)
    try:
        return find_inputs(client, study_instance_uid)
    finally:
        client.close()


def _audit(database: Database, key: str, operation: str) -> None:
    with database.pool.connection() as connection:
        audit_log.record_for_job(connection, AuditEvent.ORDERED, key, operation)


def _state(queue: JobQueue, key: str) -> str:
    job = queue.find(key)
    return job.state.value if job is not None else "gone"
