"""The worker: a process of its own that takes jobs from the queue, the model kept warm.

The process boundary is what keeps a crash, a leak or a stuck driver away from receiving. It imports no DICOM network.
"""

import ctypes
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as PipeEnd
from pathlib import Path
from typing import Protocol

from procrastinate import App, PsycopgConnector

from models.package import IntendedUse, PackageBroken
from pipeline.errors import GlionodeError
from plugin import audit, outbox
from plugin.archive import Archive, EmbeddedArchive, results_folder
from plugin.audit import Audited
from plugin.database import Database, clear_trouble, connected, note_trouble
from plugin.in_hand import InHandWriter
from plugin.job_queue import HEARTBEAT_S, QUEUE, STALLED_AFTER_S, TASK, Connection, JobQueue
from plugin.jobs import Finished, new_job
from plugin.logs import set_up_logging
from plugin.past import Past, explained, remember
from plugin.report_file import ReadReport, read_report
from plugin.settings import Settings
from plugin.study_inputs import read_inputs

_LOG = logging.getLogger(__name__)

_PLACE = "worker"
_PR_SET_PDEATHSIG = 1  # prctl(2)


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

SegmentStudy = Callable[[tuple[Path, ...], Path, Past, OnStep], Outcome]
"""Segments the study of these files and writes its results to a folder, which it makes and completes last; knows what
came before."""

SegmentFactory = Callable[[], SegmentStudy]
"""Called once in the worker process: loads the model and returns what segments. It must be picklable."""


def run_worker(
    settings: Settings,
    url: str,
    embedded: bool,
    intended_use: IntendedUse,
    make_segment: SegmentFactory,
    log_level: int,
    pipe: PipeEnd,
) -> None:
    """The worker process's whole life: until SIGTERM, which lets a running job end, or until `serve` is gone."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for `serve`, which ends us in its own time
    set_up_logging(log_level)
    with connected(url) as pool:
        database = Database(url, pool, embedded)
        try:
            segment = make_segment()
        except Exception as exc:
            note_trouble(pool, _PLACE, f"The model does not load. {_describe(exc)}")
            raise SystemExit(3) from exc
        clear_trouble(pool, _PLACE)
        archive = EmbeddedArchive(settings.data_dir / "archive", minimum_free_bytes=0)
        work = _Work(settings, archive, JobQueue(database), intended_use, segment, InHandWriter(pipe))
        app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=4))
        app.task(name=TASK, queue=QUEUE)(work.do)
        app.run_worker(
            queues=[QUEUE],
            name="segment",
            concurrency=1,
            fetch_job_polling_interval=2.0,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_AFTER_S,
            delete_jobs="always",  # our own rows are the record
        )


class _Work:
    """What the worker does with a job."""

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        queue: JobQueue,
        intended_use: IntendedUse,
        segment: SegmentStudy,
        in_hand: InHandWriter,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._queue = queue
        self._intended_use = intended_use
        self._segment = segment
        self._in_hand = in_hand

    def do(self, key: str) -> None:
        """Run the job `key`, if it is still to be run, and write down its outcome and what is to be sent."""
        job = self._queue.peek(key)
        if job is None:
            return
        inputs = read_inputs(self._archive, job.study_instance_uid)
        if new_job(job.study_instance_uid, inputs.sop_instance_uids, job.model_sha256).key != key:
            self._queue.outdate(job)
        job = self._queue.take(key)
        if job is None:
            return
        self._in_hand.step(key, "begin")
        _LOG.info("job %s: %d images", key, len(inputs.paths))
        folder = results_folder(self._settings.data_dir, job.study_instance_uid, key)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was ended before it was written down
        past = self._queue.past(job)
        finished, objects = self._run(inputs.paths, folder, past, lambda step: self._in_hand.step(key, step))
        finished = explained(finished, past)
        self._in_hand.nothing()

        def also(connection: Connection) -> None:
            outbox.put(connection, key, objects, self._settings.destinations, self._intended_use)
            report = read_report(folder)
            remember(connection, key, report)
            _audit(connection, key, report, objects)

        self._queue.finish(job, finished, str(folder) if folder.is_dir() else None, also)
        _LOG.info("job %s: %s, %d objects%s", key, finished.status, len(objects), _because(finished.reason))

    def _run(
        self, paths: tuple[Path, ...], folder: Path, past: Past, on_step: OnStep
    ) -> tuple[Finished, tuple[outbox.OutgoingObject, ...]]:
        try:
            outcome = self._segment(paths, folder, past, on_step)
            objects = tuple(outbox.OutgoingObject(_sop_instance_uid(path), path) for path in outcome.output_paths)
        except Exception as exc:  # noqa: BLE001 - a job's failure is recorded and must not end the worker
            _LOG.error("a job failed:\n%s", "".join(traceback.format_tb(exc.__traceback__)))
            return Finished("failed", _describe(exc)), ()
        return Finished(outcome.status, outcome.reason), objects


def _audit(connection: Connection, key: str, report: ReadReport, objects: Sequence[outbox.OutgoingObject]) -> None:
    for series in report.chosen:
        audit.record_of_job(connection, Audited.CHOSEN, key, f"{series.role}: series {series.series_instance_uid}")
    for each in objects:
        audit.record_of_job(connection, Audited.PRODUCED, key, f"{each.sop_instance_uid} ({each.path.name})")


def _end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, however that comes about. Linux only."""
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and parent.pid != os.getppid():  # it ended before the kernel was told
        raise SystemExit(1)


def _sop_instance_uid(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)


def _describe(exc: BaseException) -> str:
    """A sentence about an exception. Messages that are not ours may quote a header, so only kind and place are said."""
    if isinstance(exc, GlionodeError | PackageBroken):
        return str(exc)
    frames = traceback.extract_tb(exc.__traceback__)
    place = f" in {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
    return f"An unexpected {type(exc).__name__}{place}: a fault of glionode; please report it."


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
