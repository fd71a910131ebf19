"""Run one job in a worker process: get the images, segment them, store the results, record the outcome."""

import logging
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from psycopg_pool import ConnectionPool

from models.package import IntendedUse
from pipeline.errors import GlionodeError
from plugin.archive.report_reader import ReadReport, read_report
from plugin.archive.study_inputs import StudyInputs
from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent
from plugin.database.pool import Connection, clear_trouble, record_trouble
from plugin.errors import ArchiveUnavailable, NotInArchive, describe_failure
from plugin.http.transfer import sha256_of
from plugin.jobs import outbox
from plugin.jobs.job import OPEN, WITH_RESULT, Finished, Job, JobSource, JobState, new_job
from plugin.jobs.prior_results import PriorResults, record_for_later_jobs, with_purge_reason
from plugin.jobs.queue import JobQueue
from plugin.logs import Outage
from plugin.settings.sections import Settings
from plugin.sources.study_source import StudySource, Workspace
from plugin.worker.intact_images import Received, require_intact
from plugin.worker.progress_pipe import ProgressWriter

_LOG = logging.getLogger(__name__)

_ALL_GONE = "Its result was lost, and its images are not in the archive any more; send the study again."
_ALL_DELETED = "All MR images of the study were deleted in Orthanc before it was begun."
_MINIMUM_FREE_BYTES = 64 << 20
"""Several times the size of a study's results."""


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """The outcome of segmenting a study."""

    status: str
    """"segmented", "unchanged", "not_eligible" or "failed"."""
    reason: str | None
    """Why the study was not segmented, a sentence without patient data; None if it was."""
    output_paths: tuple[Path, ...]
    """The DICOM files that were written."""


OnStep = Callable[[str], None]
"""Called with the name of a step as it begins."""


class SegmentStudy(Protocol):
    """Segments studies in the worker process."""

    def __call__(self, files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
        """Segment the study of these files and write its results to the new folder `out`, which appears whole."""


SegmentFactory = Callable[[], SegmentStudy]
"""Called once in the worker process to load the model. Must be picklable."""


class WorkerTrouble:
    """What keeps this worker from running jobs, stored for `status`."""

    def __init__(self, pool: ConnectionPool, place: str) -> None:
        self._pool = pool
        self._place = place
        self._recorded = True
        self._outage = Outage(_LOG, "running jobs")
        self.clear()

    def record(self, message: str, key: str) -> None:
        """Store why the worker cannot run jobs, such as the job `key`."""
        self._outage.failed(f"job {key} is postponed: {message}", kind=message)
        record_trouble(self._pool, self._place, message)
        self._recorded = True

    def clear(self) -> None:
        """Delete the stored message, if there is one, because the worker runs jobs again."""
        self._outage.works()
        if self._recorded:
            clear_trouble(self._pool, self._place)
            self._recorded = False


class NoRoomForResults(GlionodeError):
    """The disk may be too full for a study's results; the job waits until there is space."""


class ImagesReplaced(Exception):
    """Images of a study took the place of others while its job ran: the result may be of two patients."""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Runs one job at a time."""

    settings: Settings
    source: StudySource
    queue: JobQueue
    trouble: WorkerTrouble
    intended_use: IntendedUse
    segment: SegmentStudy
    progress: ProgressWriter

    def run(self, key: str) -> None:
        """Run the job `key` if it is still open; record its outcome and queue its results for delivery."""
        try:
            self._run(key)
        except (ArchiveUnavailable, NotInArchive, NoRoomForResults) as exc:
            # The received images are safe, and the next sweep queues the job again; only the computation is lost.
            self.progress.idle()
            self.trouble.record(str(exc), key)
        else:
            self.trouble.clear()

    def _run(self, key: str) -> None:
        job = self.queue.find(key)
        if job is None:
            return
        self.progress.step(key, "fetch")
        inputs = self.source.inputs(job)
        if _inputs_changed(job, inputs):
            job = self._replace_outdated(job, inputs)
        if job is None or job.state not in OPEN:
            self.progress.idle()
            return
        try:
            self._fetch_and_segment(job, inputs)
        except NotInArchive:
            # Images that were deleted in Orthanc meanwhile change the inputs; others are missing for some other reason.
            if job.source is not JobSource.ORTHANC:
                raise
            inputs = self.source.inputs(job)
            if not _inputs_changed(job, inputs):
                raise
            self.progress.idle()
            self._replace_outdated(job, inputs)

    def _replace_outdated(self, job: Job, inputs: StudyInputs) -> Job | None:
        """Supersede a job whose study has other images by now. Return the job in its new state."""
        if job.result_lost and not inputs.sop_instance_uids:
            self.queue.finish(job, Finished("failed", _ALL_GONE), None, lambda _: None)
            return self.queue.find(job.key)
        if job.result_lost:
            self._replace_lost(job, inputs)
        # The reconciler makes new jobs for the node's own archive. Orthanc does not report images that were deleted.
        elif job.state is JobState.QUEUED and job.source is JobSource.ORTHANC:
            uids = inputs.sop_instance_uids
            successor = new_job(
                job.study_instance_uid, uids, job.model_sha256, job.urgent, job.source, inputs.replacements
            )
            if uids:
                successor = self.queue.add(successor) or self.queue.standing(successor)
            elif self.queue.newest_job(job.study_instance_uid, WITH_RESULT) is None:
                self.queue.add_finished(successor, JobState.NOT_ELIGIBLE, _ALL_DELETED)
            _LOG.info("job %s: Orthanc has other images now, %d; see job %s", job.key, len(uids), successor.key)
        # Adding the successor has superseded the job already, in one transaction: no crash in between loses the study.
        self.queue.mark_outdated(job)
        return self.queue.find(job.key)

    def _replace_lost(self, job: Job, inputs: StudyInputs) -> None:
        """See that a study whose result was lost gets one of its images as they are now."""
        successor = new_job(
            *(job.study_instance_uid, inputs.sop_instance_uids, job.model_sha256, job.urgent, job.source),
            inputs.replacements,
        )
        newest = self.queue.newest_job(job.study_instance_uid, frozenset(JobState) - {JobState.SUPERSEDED})
        same_images = newest is not None and newest.instances_sha256 == successor.instances_sha256
        # One that found the images that came late of no matter has no result but the lost one.
        self.queue.add(successor, again=same_images and newest is not None and newest.state is JobState.UNCHANGED)

    def _fetch_and_segment(self, job: Job, inputs: StudyInputs) -> None:
        with self.source.workspace(job, inputs) as workspace:
            _require_room(workspace.results.parent)  # before the job starts: a full disk must not count as an attempt
            started = self.queue.start(job.key)
            if started is None:
                self.progress.idle()
                return
            _LOG.info("job %s: %d images", job.key, len(workspace.paths), extra=_log_extra(started))
            try:
                self._segment_and_record(started, workspace)
            except ImagesReplaced:
                # The reconciler makes a job of the images as they are, and this one is found outdated.
                self.queue.postpone(job.key, started.attempts + 1)
                shutil.rmtree(workspace.results, ignore_errors=True)
                self.progress.idle()
                _LOG.warning("job %s: images took the place of others meanwhile; its result is dropped", job.key)
            except (ArchiveUnavailable, NotInArchive, NoRoomForResults):
                self.queue.postpone(job.key, started.attempts + 1)
                raise

    def _segment_and_record(self, job: Job, workspace: Workspace) -> None:
        self.progress.step(job.key, "begin")
        shutil.rmtree(workspace.results, ignore_errors=True)  # of an attempt whose outcome was not recorded
        prior_results = self.queue.prior_results(job)
        received = self.queue.received(job) if job.source is JobSource.OWN else {}
        finished, made = self._segment(job, workspace, prior_results, received)
        if finished.status == JobState.FAILED:
            _require_room(workspace.results.parent)  # a failure on a full disk says nothing about the study
        if job.source is JobSource.OWN and self.source.inputs(job).replacements != job.replacements:
            raise ImagesReplaced
        finished = with_purge_reason(finished, prior_results)
        report = read_report(workspace.results)
        folder: Path | None = None
        if workspace.results.is_dir():
            self.progress.step(job.key, "keep")
            folder = self.source.store_results(job, workspace.results)
        objects = [] if folder is None else [replace(each, path=folder / each.path.name) for each in made]
        self.progress.idle()

        hold = report.empty and self.settings.delivery.hold_empty

        def also(connection: Connection) -> None:
            if finished.status == JobState.SEGMENTED:
                outbox.withdraw_earlier(connection, job.key, [each.sop_instance_uid for each in objects])
            outbox.put(connection, job.key, objects, self.settings.destinations, self.intended_use, hold)
            record_for_later_jobs(connection, job.key, report)
            _audit(connection, job.key, report, objects)

        self.queue.finish(job, finished, str(folder) if folder is not None else None, also)
        because = f" ({finished.reason})" if finished.reason else ""
        _LOG.info("job %s: %s, %d objects%s", job.key, finished.status, len(objects), because, extra=_log_extra(job))

    def _segment(
        self, job: Job, workspace: Workspace, prior_results: PriorResults, received: Received
    ) -> tuple[Finished, list[outbox.OutgoingObject]]:
        """Return the outcome and the objects in the workspace."""

        def on_step(step: str) -> None:
            self.progress.step(job.key, step)

        try:
            if received:
                require_intact(job.study_instance_uid, workspace.paths, received)
            outcome = self.segment(workspace.paths, workspace.results, prior_results, on_step)
            objects = [
                outbox.OutgoingObject(_sop_instance_uid(path), path, sha256_of(path).hex())
                for path in outcome.output_paths
            ]
        except Exception as exc:  # noqa: BLE001 - a job's failure is recorded and must not end the worker
            _LOG.error(
                "job %s failed:\n%s",
                *(job.key, "".join(traceback.format_tb(exc.__traceback__))),
                extra={"job": job.key},
            )
            return Finished("failed", describe_failure(exc)), []
        return Finished(outcome.status, outcome.reason), objects


def _inputs_changed(job: Job, inputs: StudyInputs) -> bool:
    """Return whether a study has other images than its job was made for."""
    uids, replacements = inputs.sop_instance_uids, inputs.replacements
    found = new_job(job.study_instance_uid, uids, job.model_sha256, replacements=replacements)
    return found.instances_sha256 != job.instances_sha256


def _require_room(folder: Path) -> None:
    """Raise NoRoomForResults if the disk may be too full for results."""
    free = shutil.disk_usage(folder).free
    if free < _MINIMUM_FREE_BYTES:
        raise NoRoomForResults(
            f"{free >> 20} MiB are free where results are written, and {_MINIMUM_FREE_BYTES >> 20} MiB may be needed. "
            "Free some space; the jobs continue by themselves then."
        )


def _log_extra(job: Job) -> dict[str, str]:
    return {"job": job.key, "study_instance_uid": job.study_instance_uid}


def _audit(connection: Connection, key: str, report: ReadReport, objects: Sequence[outbox.OutgoingObject]) -> None:
    for series in report.chosen:
        detail = f"{series.role}: series {series.series_instance_uid}"
        audit_log.record_for_job(connection, AuditEvent.CHOSEN, key, detail)
    for each in objects:
        audit_log.record_for_job(connection, AuditEvent.PRODUCED, key, f"{each.sop_instance_uid} ({each.path.name})")


def _sop_instance_uid(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
