"""What a person orders of a node from outside: try again, end, take now. Acts on database and archive, not on the node,
which looks at both by itself.
"""

from dataclasses import dataclass

from pipeline.errors import GlionodeError
from plugin.archive.store import EmbeddedArchive, is_uid
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.database import audit_log
from plugin.database.audit_log import Audited
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.job import Cancelled, JobState, Leave, Restart, Retried, Source, new_job
from plugin.jobs.outbox import OutboxState
from plugin.jobs.queries import find_key, list_jobs, show_job
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from plugin.sources.served_model import served_package


class OrderRefused(GlionodeError):
    """What was ordered does not go with how things stand."""


@dataclass(frozen=True, slots=True)
class RetryOutcome:
    """What is tried again."""

    jobs: tuple[str, ...]
    """Keys of jobs that were queued anew."""
    deliveries: int
    """Objects times destinations that are sent as soon as may be."""


def retry_job(database: Database, name: str) -> RetryOutcome:
    """Queue a failed or cancelled job anew, and send what failed of its objects.

    Raises NoSuchJob, and OrderRefused where nothing of it failed.
    """
    queue = JobQueue(database)
    with database.pool.connection() as connection:
        job = show_job(connection, name).job
        if job.purged_at:
            raise OrderRefused(f"Images and results of job {job.key} were purged; send the study again.")
        key = job.key
        deliveries = outbox.retry(connection, (OutboxState.DEAD, OutboxState.FAILED), key)
    restarted = isinstance(queue.change(key, Retried()), Restart)
    if restarted or deliveries:
        _write_down(database, key, f"retried, {deliveries} deliveries")
    if not restarted and not deliveries:
        raise OrderRefused(
            f"Job {key} is {_state(queue, key)} and no delivery of it failed, so there is nothing to try again. "
            "`glionode force STUDY --again` segments a study once more."
        )
    return RetryOutcome((key,) if restarted else (), deliveries)


def retry_all(database: Database, failed: bool, dead: bool) -> RetryOutcome:
    """Try again all jobs and deliveries that `failed`, all deliveries that are `dead`, or both."""
    queue = JobQueue(database)
    states = [state for state, wanted in ((OutboxState.FAILED, failed), (OutboxState.DEAD, dead)) if wanted]
    with database.pool.connection() as connection:
        deliveries = outbox.retry(connection, states, None)
        jobs = list_jobs(connection, JobState.FAILED, 0) if failed else ()
    there = [job.key for job in jobs if not job.purged_at]
    restarted = tuple(key for key in there if isinstance(queue.change(key, Retried()), Restart))
    for key in restarted:
        _write_down(database, key, "retried with all that failed")
    return RetryOutcome(restarted, deliveries)


def cancel_job(database: Database, name: str) -> str:
    """End a job that waits or runs; returns its key. A running one's worker is ended by its node within seconds.

    Raises NoSuchJob, and OrderRefused where it is over.
    """
    queue = JobQueue(database)
    with database.pool.connection() as connection:
        key = find_key(connection, name)
    if isinstance(queue.change(key, Cancelled()), Leave):
        raise OrderRefused(f"Job {key} is {_state(queue, key)}; only a job that waits or runs can be cancelled.")
    _write_down(database, key, "cancelled")
    return key


def force_study(settings: Settings, database: Database, study_instance_uid: str, again: bool) -> str:
    """Queue a study of the archive with the images that it has now, complete or not; returns the job's key.

    One that the node's own archive has not is looked for in the Orthanc beside it. Raises OrderRefused where it has no
    images, or where they were taken before and `again` is not said; ArchiveAway.
    """
    archive = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
    inputs = read_inputs(archive, study_instance_uid) if is_uid(study_instance_uid) else None
    source = Source.OWN
    if inputs is not None and not inputs.paths and settings.orthanc.url:
        inputs, source = _in_orthanc(settings, study_instance_uid), Source.ORTHANC
    if inputs is None or not inputs.paths:
        raise OrderRefused(f"The archive has no MR images of a study {study_instance_uid!r}; send it first.")
    model = served_package(settings.model.name, settings.installed_models_dir)
    job = new_job(study_instance_uid, inputs.sop_instance_uids, model.weights_sha256, source=source)
    if JobQueue(database).add(job, again=again):
        _write_down(database, job.key, "forced, once more" if again else "forced")
        return job.key
    raise OrderRefused(
        f"Study {study_instance_uid} waits or runs with these images already."
        if again
        else f"Study {study_instance_uid} was taken with these images before; say --again to segment it once more."
    )


def _in_orthanc(settings: Settings, study_instance_uid: str) -> StudyInputs:
    from plugin.orthanc.client import OrthancClient
    from plugin.orthanc.studies import inputs_of

    client = OrthancClient(settings.orthanc, patience_s=0)
    try:
        return inputs_of(client, study_instance_uid)
    finally:
        client.close()


def _write_down(database: Database, key: str, order: str) -> None:
    with database.pool.connection() as connection:
        audit_log.record_of_job(connection, Audited.ORDERED, key, order)


def _state(queue: JobQueue, key: str) -> str:
    job = queue.peek(key)
    return job.state.value if job is not None else "gone"
