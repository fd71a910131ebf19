"""Studies that Orthanc names become jobs. What came of them is told. Knows no HTTP server and decides nothing of a job.

Named twice, a study has one job; results that have come to it since are no images, and change nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg_pool import ConnectionPool

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.database.pool import database_id
from plugin.jobs import outbox
from plugin.jobs.job import WITH_RESULT, Job, JobSource, JobState, new_job, no_images_reason
from plugin.jobs.queries import NoSuchJob, count_jobs_by_state, show_job
from plugin.jobs.queue import JobQueue
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import OrthancInputs, TwoStudies, inputs_of, study_uid_of
from plugin.settings.destinations import AnyDestination, OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a study is to be taken."""

    urgent: bool = False
    """Before all others: a person waits for it."""
    again: bool = False
    """Also if it was taken with these images before."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a study that was named."""

    study_instance_uid: str
    job: str
    added: bool
    """False where there was a job for these images already."""
    state: str


class OrthancIntake:
    """Takes studies from Orthanc. Thread-safe."""

    def __init__(
        self,
        settings: OrthancSettings,
        queue: JobQueue,
        pool: ConnectionPool,
        model_sha256: str,
        destinations: Sequence[AnyDestination] = (),
    ) -> None:
        """Of the destinations, those count that are this Orthanc, or beyond it."""
        self._settings = settings
        self._destinations = tuple(each.name for each in destinations if isinstance(each, OrthancDestinationSettings))
        self._queue = queue
        self._pool = pool
        self._model_sha256 = model_sha256

    def submit(self, orthanc_id: str, wish: Wish) -> Submitted:
        """Give a study its job, if these images have none. Raises TwoStudies, NotInArchive, ArchiveUnavailable."""
        client = OrthancClient(self._settings, patience_s=0)
        try:
            study = study_uid_of(client, orthanc_id)
            return self._take(client, study, wish)
        finally:
            client.close()

    def look(self, orthanc_id: str) -> dict[str, Any]:
        """What came of a study, for JSON: `state` is "unknown" where it was never named. Raises as `submit`."""
        client = OrthancClient(self._settings, patience_s=0)
        try:
            study = study_uid_of(client, orthanc_id)
        finally:
            client.close()
        return what_came_of(self._pool, study)

    def status(self) -> dict[str, Any]:
        """For JSON."""
        return status_of(self._pool)

    def _take(self, client: OrthancClient, study: str, wish: Wish) -> Submitted:
        try:
            inputs = inputs_of(client, study)
        except TwoStudies as exc:
            # What came of the study before stands. Once one is gone, the images' own job takes this one's place.
            if self._queue.newest_job(study, frozenset(JobState) - {JobState.SUPERSEDED}) is None:
                job = new_job(study, exc.ids, self._model_sha256, source=JobSource.ORTHANC)
                self._queue.add_finished(replace(job, image_count=0), JobState.FAILED, str(exc))
            raise
        job = new_job(study, inputs.sop_instance_uids, self._model_sha256, wish.urgent, JobSource.ORTHANC)
        if inputs.images:
            added = self._queue.add(job, again=wish.again)
            if not added:
                self._bring_back(client, job.key)
        elif (standing := self._standing(study, inputs)) is not None:
            return Submitted(study, standing.key, False, standing.state.value)
        else:
            added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, no_images_reason(inputs.other_instances))
        return self._submitted(study, job.key, added, len(inputs.images))

    def _standing(self, study: str, inputs: OrthancInputs) -> Job | None:
        """The job that a study without images is known by: the one that has its result, or made all that it holds."""
        if (segmented := self._queue.newest_job(study, WITH_RESULT)) is not None:
            return segmented
        with self._pool.connection() as connection:
            key = outbox.producing_job(connection, study, inputs.others)
        return self._queue.find(key) if key is not None else None

    def _bring_back(self, client: OrthancClient, key: str) -> None:
        """Have results sent again that are not in Orthanc any more: the study was deleted there, and came again."""
        with self._pool.connection() as connection:
            there = outbox.delivered(connection, key, self._destinations)
        lost = [uid for uid in there if not client.post_json("/tools/lookup", uid.encode())]
        if not lost:
            return
        with self._pool.connection() as connection:
            outbox.resend(connection, lost, self._destinations)
            connection.execute("UPDATE glionode_jobs SET marked_at = NULL WHERE key = %s", (key,))
        _LOG.info("job %s: %d objects are not in Orthanc any more, and sent again", key, len(lost), extra={"job": key})

    def _submitted(self, study: str, key: str, added: bool, images: int) -> Submitted:
        if added:
            _LOG.info("study %s in Orthanc, %d MR images: job %s", study, images, key, extra={"job": key})
            with self._pool.connection() as connection:
                about, peer = AuditSubject(study, key), Peer("", self._settings.url)
                audit_log.record(
                    connection, AuditEvent.RECEIVED, about, f"{images} images, which stay in Orthanc", peer
                )
        job = self._queue.find(key)
        return Submitted(study, key, added, job.state.value if job is not None else "unknown")


def what_came_of(pool: ConnectionPool, study: str) -> dict[str, Any]:
    """What came of a study, for JSON: `state` is "unknown" where there is no job of it."""
    try:
        with pool.connection() as connection:
            detail = show_job(connection, study)
    except NoSuchJob:
        return {"study_instance_uid": study, "state": "unknown", "reason": None, "job": None}
    line = detail.job
    return {
        "study_instance_uid": study,
        "state": line.state,
        "reason": line.reason,
        "job": asdict(line),
        "chosen": {each.role: each.series_instance_uid for each in detail.chosen},
        "outputs": [
            {
                "file": each.file,
                "sop_class_uid": each.sop_class_uid,
                "sop_instance_uid": each.sop_instance_uid,
                "deliveries": {delivery.destination: delivery.state for delivery in each.deliveries},
            }
            for each in detail.outputs
        ],
    }


def status_of(pool: ConnectionPool) -> dict[str, Any]:
    """Jobs by state, and which database has them, for JSON."""
    with pool.connection() as connection:
        jobs = count_jobs_by_state(connection)
    return {"jobs": jobs, "database": database_id(pool)}
