"""What a worker does with a job: images in, results kept, the outcome written down. Knows nothing of processes."""

import logging
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from psycopg_pool import ConnectionPool

from models.package import IntendedUse, PackageBroken
from pipeline.errors import GlionodeError
from plugin.archive.report_reader import ReadReport, read_report
from plugin.archive.study_inputs import StudyInputs
from plugin.database import audit_log
from plugin.database.audit_log import Audited
from plugin.database.pool import clear_trouble, note_trouble
from plugin.errors import ArchiveAway, NotInArchive
from plugin.jobs import outbox
from plugin.jobs.job import OPEN, WITH_RESULT, Finished, Job, JobState, Source, new_job
from plugin.jobs.prior_results import PriorResults, explained, remember
from plugin.jobs.queue import Connection, JobQueue
from plugin.settings.sections import Settings
from plugin.sources.study_source import StudySource, Workspace
from plugin.worker.progress_pipe import ProgressWriter

_LOG = logging.getLogger(__name__)

_ALL_DELETED = "All MR images of the study were deleted in Orthanc before it was begun."
_ROOM_FOR_RESULTS_BYTES = 64 << 20
"""Several times what a study's objects take."""


class Outcome(Protocol):
    """What segmenting a study came to."""

    @property
    def status(self) -> str:
        """ "segmented", "unchanged", "not_eligible" or "failed"."""

    @property
    def reason(self) -> str | None:
        """Why it is not segmented, a sentence without patient data; None where it is."""

    @property
    def output_paths(self) -> Sequence[Path]:
        """The DICOM files that were written."""


OnStep = Callable[[str], None]
"""Called with the name of a step as it begins."""

SegmentStudy = Callable[[tuple[Path, ...], Path, PriorResults, OnStep], Outcome]
"""Segments the study of these files and writes its results to a folder, which it makes and completes last; knows what
came before."""

SegmentFactory = Callable[[], SegmentStudy]
"""Called once in the worker process: loads the model and returns what segments. It must be picklable."""


class Trouble:
    """What hinders this worker, for `status`; written down once, and once that it is over."""

    def __init__(self, pool: ConnectionPool, place: str) -> None:
        self._pool = pool
        self._place = place
        self._noted = True
        self.clear()

    def note(self, message: str) -> None:
        """It cannot work because of this."""
        note_trouble(self._pool, self._place, message)
        self._noted = True

    def clear(self) -> None:
        """It works."""
        if self._noted:
            clear_trouble(self._pool, self._place)
            self._noted = False


class NoRoomForResults(GlionodeError):
    """The disk may not take a study's results; its job waits until there is room."""


class JobRunner:
    """Does one job at a time."""

    def __init__(
        self,
        settings: Settings,
        supply: StudySource,
        queue: JobQueue,
        trouble: Trouble,
        intended_use: IntendedUse,
        segment: SegmentStudy,
        in_hand: ProgressWriter,
    ) -> None:
        self._settings = settings
        self._supply = supply
        self._queue = queue
        self._trouble = trouble
        self._intended_use = intended_use
        self._segment = segment
        self._in_hand = in_hand

    def do(self, key: str) -> None:
        """Run the job `key`, if it is still to be run, and write down its outcome and what is to be sent."""
        try:
            self._do(key)
        except (ArchiveAway, NotInArchive, NoRoomForResults) as exc:
            # What was made is lost with this; what was received is not, and the next look queues the job again.
            self._in_hand.nothing()
            _LOG.warning("job %s waits: %s", key, exc, extra={"job": key})
            self._trouble.note(str(exc))
        else:
            self._trouble.clear()

    def _do(self, key: str) -> None:
        job = self._queue.peek(key)
        if job is None:
            return
        inputs = self._supply.inputs(job)
        if new_job(job.study_instance_uid, inputs.sop_instance_uids, job.model_sha256).key != key:
            job = self._outdated(job, inputs)
        if job is None or job.state not in OPEN:
            return
        self._in_hand.step(key, "fetch")
        try:
            self._fetch_and_run(job, inputs)
        except NotInArchive:
            # What was deleted since it was looked is not waited for; what is there and cannot be had, is.
            if job.source is not Source.ORTHANC:
                raise
            inputs = self._supply.inputs(job)
            if new_job(job.study_instance_uid, inputs.sop_instance_uids, job.model_sha256).key == key:
                raise
            self._in_hand.nothing()
            self._outdated(job, inputs)

    def _outdated(self, job: Job, inputs: StudyInputs) -> Job | None:
        """Other images are there than the job was made for. Gives the job as it stands then."""
        # The node's own archive is looked at anew by the node. Of a study in Orthanc nobody tells that it has less.
        if job.state is JobState.QUEUED and job.source is Source.ORTHANC:
            uids = inputs.sop_instance_uids
            successor = new_job(job.study_instance_uid, uids, job.model_sha256, job.urgent, job.source)
            if uids:
                self._queue.add(successor)
            elif self._queue.newest(job.study_instance_uid, WITH_RESULT) is None:
                self._queue.add_finished(successor, JobState.NOT_ELIGIBLE, _ALL_DELETED)
            _LOG.info("job %s: Orthanc has other images now, %d; see job %s", job.key, len(uids), successor.key)
        # After its successor, which ends it in one transaction: a worker that is lost in between loses no study.
        self._queue.outdate(job)
        return self._queue.peek(job.key)

    def _fetch_and_run(self, job: Job, inputs: StudyInputs) -> None:
        key = job.key
        with self._supply.workspace(job, inputs) as bench:
            _require_room(bench.results.parent)  # before it is taken: a try on a full disk is none
            taken = self._queue.take(key)
            if taken is not None:
                _LOG.info("job %s: %d images", key, len(bench.paths), extra=_names(taken))
                try:
                    self._work_at(taken, bench)
                except (ArchiveAway, NotInArchive, NoRoomForResults):
                    self._queue.give_back(key, taken.attempts + 1)
                    raise
            else:
                self._in_hand.nothing()

    def _work_at(self, job: Job, bench: Workspace) -> None:
        self._in_hand.step(job.key, "begin")
        shutil.rmtree(bench.results, ignore_errors=True)  # of an attempt that was ended before it was written down
        past = self._queue.past(job)
        finished, made = self._run(bench.paths, bench.results, past, lambda step: self._in_hand.step(job.key, step))
        if finished.status == JobState.FAILED:
            _require_room(bench.results.parent)  # a failure on a full disk says nothing of the study
        finished = explained(finished, past)
        report = read_report(bench.results)
        kept: Path | None = None
        if bench.results.is_dir():
            self._in_hand.step(job.key, "keep")
            kept = self._supply.store_results(job, bench.results)
        objects = tuple(replace(each, path=kept / each.path.name) for each in made) if kept is not None else ()
        self._in_hand.nothing()

        def also(connection: Connection) -> None:
            outbox.put(connection, job.key, objects, self._settings.destinations, self._intended_use)
            remember(connection, job.key, report)
            _audit(connection, job.key, report, objects)

        self._queue.finish(job, finished, str(kept) if kept is not None else None, also)
        because = _because(finished.reason)
        _LOG.info("job %s: %s, %d objects%s", job.key, finished.status, len(objects), because, extra=_names(job))

    def _run(
        self, paths: tuple[Path, ...], folder: Path, past: PriorResults, on_step: OnStep
    ) -> tuple[Finished, tuple[outbox.OutgoingObject, ...]]:
        try:
            outcome = self._segment(paths, folder, past, on_step)
            objects = tuple(outbox.OutgoingObject(_sop_instance_uid(path), path) for path in outcome.output_paths)
        except Exception as exc:  # noqa: BLE001 - a job's failure is recorded and must not end the worker
            _LOG.error("a job failed:\n%s", "".join(traceback.format_tb(exc.__traceback__)))
            return Finished("failed", describe(exc)), ()
        return Finished(outcome.status, outcome.reason), objects


def _require_room(folder: Path) -> None:
    """Raises NoRoomForResults."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM_FOR_RESULTS_BYTES:
        raise NoRoomForResults(
            f"{free >> 20} MiB are free where results are written, and {_ROOM_FOR_RESULTS_BYTES >> 20} may be needed. "
            "Free some space; jobs go on by themselves then."
        )


def _names(job: Job) -> dict[str, str]:
    return {"job": job.key, "study_instance_uid": job.study_instance_uid}


def _audit(connection: Connection, key: str, report: ReadReport, objects: Sequence[outbox.OutgoingObject]) -> None:
    for series in report.chosen:
        audit_log.record_of_job(connection, Audited.CHOSEN, key, f"{series.role}: series {series.series_instance_uid}")
    for each in objects:
        audit_log.record_of_job(connection, Audited.PRODUCED, key, f"{each.sop_instance_uid} ({each.path.name})")


def _sop_instance_uid(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)


def describe(exc: BaseException) -> str:
    """A sentence about an exception. Messages that are not ours may quote a header, so only kind and place are said."""
    if isinstance(exc, GlionodeError | PackageBroken):
        return str(exc)
    frames = traceback.extract_tb(exc.__traceback__)
    place = f" in {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return f"An unexpected {type(exc).__name__}{place}: a fault of glionode; please report it."


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
