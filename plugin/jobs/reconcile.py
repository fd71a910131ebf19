"""Give each completely received study a job.

The archive is compared with the queue, rather than acting on events alone, so that a missed event loses no study.
"""

import logging
import threading
import time

from plugin.archive.store import Archive
from plugin.archive.study_inputs import read_inputs
from plugin.jobs.job import JobState, new_job, no_images_reason
from plugin.jobs.queue import JobQueue
from plugin.logs import Outage
from plugin.settings.sections import StudySettings

_LOG = logging.getLogger(__name__)
_POLL_EVERY_S = 0.25


def is_ready(first: float, last: float, now: float, settings: StudySettings) -> bool:
    """Return whether a study counts as complete: nothing arrived for long enough, or the first arrival is long ago.

    `first` and `last` are the times at which its first and last instance arrived, in seconds since 1970, as is `now`.
    What came before a pause that made the study complete does not count: late images are waited for, too.
    """
    if now - last >= settings.stable_after_s:
        return True
    return 0 < settings.force_after_s <= now - first


class Reconciler:
    """Polls the archive for complete studies, in a thread of its own."""

    def __init__(self, archive: Archive, queue: JobQueue, settings: StudySettings, model_sha256: str) -> None:
        self._archive = archive
        self._queue = queue
        self._settings = settings
        self._model_sha256 = model_sha256
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._settled: dict[str, tuple[float, bool]] = {}
        """For each study with a job: when its last instance arrived, and whether it is urgent."""
        self._first: dict[str, float] = {}
        self._next_scan = 0.0
        self._outage = Outage(_LOG, "creating jobs for received studies")

    def touch(self, study_instance_uid: str) -> None:
        """Note that an instance of this study arrived. Cheap and thread-safe."""
        with self._lock:
            self._touched.add(study_instance_uid)

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set. Errors are logged, and the studies concerned are tried again."""
        while not stop.is_set():
            try:
                self.poll(time.time())
                self._outage.works()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next poll tries again
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
                stop.wait(2.0)
            stop.wait(_POLL_EVERY_S)

    def poll(self, now: float) -> None:
        """Check the studies that received instances, and every `rescan_every_s` seconds all studies."""
        monotonic = time.monotonic()
        if monotonic >= self._next_scan:
            for study in self._archive.studies():
                self.touch(study)
            self._next_scan = monotonic + self._settings.rescan_every_s
        with self._lock:
            touched = sorted(self._touched)
        for study in touched:
            # Removed before the check, so that an instance that arrives meanwhile adds it again.
            with self._lock:
                self._touched.discard(study)
            try:
                done = self._reconcile(study, now)
            except BaseException:
                self.touch(study)
                raise
            if not done:
                self.touch(study)

    def _reconcile(self, study: str, now: float) -> bool:
        """Queue a job for a study if it is complete. Return False if the study must be checked again."""
        last, urgent = self._archive.last_received(study), self._archive.is_urgent(study)
        if last is None or self._settled.get(study) == (last, urgent):
            return True
        first = self._first_received(study)
        if first is None:
            return True
        if not is_ready(first, last, now, self._settings):
            return False
        inputs = read_inputs(self._archive, study)
        job = new_job(study, inputs.sop_instance_uids, self._model_sha256, urgent, replacements=inputs.replacements)
        if inputs.paths:
            added = self._queue.add(job)
        else:
            added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, no_images_reason(inputs.other_instances))
        if added:
            how = ", urgent" if urgent else ""
            _LOG.info("study %s is complete with %d MR images%s: job %s", study, len(inputs.paths), how, job.key)
        self._settled[study] = (last, urgent)
        self._first.pop(study, None)
        return True

    def _first_received(self, study: str) -> float | None:
        """Return when the first instance arrived, cached because it needs the status of each file."""
        if study not in self._first:
            first = self._archive.first_received(study, self._settings.stable_after_s)
            if first is None:
                return None
            self._first[study] = first
        return self._first[study]
