"""Make jobs for studies that Orthanc submits, and report their outcome.

A study that is submitted twice with the same images has one job. Results that were stored in it since are no images.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from psycopg_pool import ConnectionPool

from pipeline.header import NotDicom, read_header
from plugin.archive.report_reader import read_report
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.database.pool import database_id
from plugin.jobs import outbox, study_deliveries
from plugin.jobs.job import WITH_RESULT, Job, JobSource, JobState, new_job, no_images_reason
from plugin.jobs.queries import NoSuchJob, count_jobs_by_state, show_job
from plugin.jobs.queue import JobQueue
from plugin.orthanc.client import OrthancClient
from plugin.orthanc.studies import OrthancInputs, TwoStudies, find_inputs, find_study_patient_id, find_study_uid
from plugin.settings.destinations import AnyDestination, OrthancDestinationSettings
from plugin.settings.sections import OrthancSettings

_PATIENT_ID = 0x00100020
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Options of a submission."""

    urgent: bool = False
    """Run its job before others: a person waits for it."""
    again: bool = False
    """Segment the study also if it was segmented with these images before."""


@dataclass(frozen=True, slots=True)
class Submission:
    """The job of a study that was submitted."""

    study_instance_uid: str
    job: str
    added: bool
    """False where these images had a job already."""
    state: str


class OrthancIntake:
    """Makes jobs for studies in Orthanc. Thread-safe."""

    def __init__(
        self,
        settings: OrthancSettings,
        queue: JobQueue,
        pool: ConnectionPool,
        model_sha256: str,
        destinations: Sequence[AnyDestination] = (),
    ) -> None:
        """Results are sent again to those of the `destinations` that are this Orthanc, or that it forwards to."""
        self._settings = settings
        self._destinations = tuple(each.name for each in destinations if isinstance(each, OrthancDestinationSettings))
        self._queue = queue
        self._pool = pool
        self._model_sha256 = model_sha256

    def submit(self, orthanc_id: str, options: SubmitOptions) -> Submission:
        """Add a job for a study, if its images have none. Raises TwoStudies, NotInArchive, ArchiveUnavailable."""
        client = OrthancClient(self._settings, patience_s=0)
        try:
            study = find_study_uid(client, orthanc_id)
            return self._add_job(client, study, orthanc_id, options)
        finally:
            client.close()

    def outcome(self, orthanc_id: str) -> dict[str, Any]:
        """Return the outcome of a study for JSON; see `describe_outcome`. Raises as `submit`."""
        client = OrthancClient(self._settings, patience_s=0)
        try:
            study = find_study_uid(client, orthanc_id)
        finally:
            client.close()
        return describe_outcome(self._pool, study)

    def status(self) -> dict[str, Any]:
        """Return the numbers of jobs for JSON; see `describe_status`."""
        return describe_status(self._pool)

    def _add_job(self, client: OrthancClient, study: str, orthanc_id: str, options: SubmitOptions) -> Submission:
        try:
            inputs = find_inputs(client, study)
        except TwoStudies as exc:
            # An earlier outcome of the study stays. The job of its images replaces this one once one study is deleted.
            if self._queue.newest_job(study, frozenset(JobState) - {JobState.SUPERSEDED}) is None:
                job = new_job(study, exc.ids, self._model_sha256, source=JobSource.ORTHANC)
                self._queue.add_finished(replace(job, image_count=0), JobState.FAILED, str(exc))
            raise
        job = new_job(study, inputs.sop_instance_uids, self._model_sha256, options.urgent, JobSource.ORTHANC)
        if inputs.images:
            standing = self._queue.standing(job)
            corrected = self._has_result_of_another_patient(client, orthanc_id, standing.key)
            added = self._queue.add(job, again=options.again or corrected)
            if corrected:
                _LOG.info("study %s in Orthanc has another patient ID than its result; segmenting it again", study)
            elif added is None:
                self._send_lost_results(client, standing.key)
        elif (current := self._current_job(study, inputs)) is not None:
            return Submission(study, current.key, False, current.state.value)
        else:
            added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, no_images_reason(inputs.other_instances))
        key = (added or self._queue.standing(job)).key
        return self._record(study, key, added is not None, len(inputs.images))

    def _current_job(self, study: str, inputs: OrthancInputs) -> Job | None:
        """Return the job of a study without images: the one with its result, or the one that made all its objects."""
        if (segmented := self._queue.newest_job(study, WITH_RESULT)) is not None:
            return segmented
        with self._pool.connection() as connection:
            key = study_deliveries.producing_job(connection, study, inputs.others)
        return self._queue.find(key) if key is not None else None

    def _has_result_of_another_patient(self, client: OrthancClient, orthanc_id: str, key: str) -> bool:
        """Return whether the patient ID was corrected in Orthanc, with the UIDs kept, since the job was segmented.

        IDs beyond ASCII are not compared, because Orthanc encodes them in its own way.
        """
        with self._pool.connection() as connection:
            row = connection.execute(
                "SELECT r.results_path FROM glionode_jobs j JOIN glionode_jobs r ON r.key = coalesce(j.same_as, j.key) "
                "WHERE j.key = %s",
                (key,),
            ).fetchone()
        if row is None or row[0] is None:
            return False
        made = find_patient_id(Path(row[0]))
        found = find_study_patient_id(client, orthanc_id)
        if made is None or found is None or not (made + found).isascii():
            return False
        return made.strip() != found.strip()

    def _send_lost_results(self, client: OrthancClient, key: str) -> None:
        """Queue results again that Orthanc has no more: the study was deleted there and received again."""
        with self._pool.connection() as connection:
            delivered = study_deliveries.delivered(connection, key, self._destinations)
        lost = [uid for uid in delivered if not client.post_json("/tools/lookup", uid.encode())]
        if not lost:
            return
        with self._pool.connection() as connection:
            outbox.resend(connection, lost, self._destinations)
            connection.execute("UPDATE glionode_jobs SET marked_at = NULL WHERE key = %s", (key,))
        _LOG.info("job %s: %d objects are missing in Orthanc; sending them again", key, len(lost), extra={"job": key})

    def _record(self, study: str, key: str, added: bool, images: int) -> Submission:
        if added:
            _LOG.info("study %s in Orthanc with %d MR images: added job %s", study, images, key, extra={"job": key})
            with self._pool.connection() as connection:
                about, peer = AuditSubject(study, key), Peer("", self._settings.url)
                audit_log.record(
                    connection, AuditEvent.RECEIVED, about, f"{images} images, which stay in Orthanc", peer
                )
        job = self._queue.find(key)
        return Submission(study, key, added, job.state.value if job is not None else "unknown")


def find_patient_id(results: Path) -> str | None:
    """Return the patient ID of the first object of a result; None where its files are gone."""
    for each in read_report(results).written:
        try:
            return read_header(results / each.file, (_PATIENT_ID,)).text(_PATIENT_ID)
        except NotDicom:
            return None
    return None


def describe_outcome(pool: ConnectionPool, study: str) -> dict[str, Any]:
    """Return the outcome of a study for JSON: job, chosen series and results; without a job `state` is "unknown"."""
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


def describe_status(pool: ConnectionPool) -> dict[str, Any]:
    """Return the numbers of jobs by state and the identity of the database that has them, for JSON."""
    with pool.connection() as connection:
        jobs = count_jobs_by_state(connection)
    return {"jobs": jobs, "database": database_id(pool)}
