"""Compare what was received with what was done: each study that has been quiet for a while has a job, or gets one.

Looks at the state and not at events, so that nothing that was missed is lost. Knows archive and queue, not the network.
"""

import logging
import threading
import time

from plugin.archive.store import Archive
from plugin.archive.study_inputs import read_inputs
from plugin.jobs.job import JobState, new_job
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import StudySettings

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.25


def is_ready(first: float, last: float, now: float, settings: StudySettings) -> bool:
    """Whether a study counts as complete: quiet for long enough, or long enough on its way.

    `first` and `last` say when its instances came, in seconds since 1970 as `now`.
    """
    if now - last >= settings.stable_after_s:
        return True
    return 0 < settings.force_after_s <= now - first


class Reconciler:
    """Watches the archive in a thread of its own."""

    def __init__(self, archive: Archive, queue: JobQueue, settings: StudySettings, model_sha256: str) -> None:
        self._archive = archive
        self._queue = queue
        self._settings = settings
        self._model_sha256 = model_sha256
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._settled: dict[str, tuple[float, bool]] = {}
        """When the last instance came that there is a job for, and whether it is urgent."""
        self._first: dict[str, float] = {}
        self._next_scan = 0.0

    def touch(self, study_instance_uid: str) -> None:
        """An instance of this study has come. Cheap; may be called from any thread."""
        with self._lock:
            self._touched.add(study_instance_uid)

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`. What goes wrong is logged and tried again at the next look."""
        while not stop.is_set():
            try:
                self.look(time.time())
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next look makes it good
                _LOG.error("comparing studies with jobs failed (%s); it is tried again", type(exc).__name__)
                stop.wait(2.0)
            stop.wait(_LOOK_EVERY_S)

    def look(self, now: float) -> None:
        """One look at the studies that were touched, and now and then at all of them."""
        monotonic = time.monotonic()
        if monotonic >= self._next_scan:
            for study in self._archive.studies():
                self.touch(study)
            self._next_scan = monotonic + self._settings.rescan_every_s
        with self._lock:
            touched = sorted(self._touched)
        for study in touched:
            # Taken off before it is looked at: an instance that comes meanwhile puts it on again.
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
        """Give a study its job if it is ready; False if it has to be looked at again."""
        last, urgent = self._archive.last_received(study), self._archive.is_urgent(study)
        if last is None or self._settled.get(study) == (last, urgent):
            return True
        first = self._first_received(study)
        if first is None:
            return True
        if not is_ready(first, last, now, self._settings):
            return False
        inputs = read_inputs(self._archive, study)
        job = new_job(study, inputs.sop_instance_uids, self._model_sha256, urgent)
        if inputs.paths:
            added = self._queue.add(job)
        else:
            reason = f"The study holds no MR image ({inputs.other_instances} instances of other kinds)."
            added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, reason)
        if added:
            how = ", urgent" if urgent else ""
            _LOG.info("study %s is complete with %d MR images%s: job %s", study, len(inputs.paths), how, job.key)
        self._settled[study] = (last, urgent)
        self._first.pop(study, None)
        return True

    def _first_received(self, study: str) -> float | None:
        """Looked up once while a study comes in: it takes a look at each of its files."""
        if study not in self._first:
            first = self._archive.first_received(study)
            if first is None:
                return None
            self._first[study] = first
        return self._first[study]
