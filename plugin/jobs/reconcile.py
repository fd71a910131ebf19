"""Give each completely received study a job.

The archive is compared with the queue, rather than acting on events alone, so that a missed event loses no study.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from models.labels import Role
from plugin.archive.store import Archive, FolderTimes
from plugin.archive.study_inputs import StudyInputs, read_inputs
from plugin.jobs.archive_index import mark
from plugin.jobs.job import JobState, new_job, no_images_reason
from plugin.jobs.queue import JobQueue
from plugin.logs import Outage
from plugin.settings.sections import StudySettings

_LOG = logging.getLogger(__name__)
_POLL_EVERY_S = 0.25
_LOOK_AT_HELD_EVERY_S = 5.0


_CLOCK_TOLERANCE_S = 60.0
"""How far a file may be ahead of this host's clock: file servers have clocks of their own."""

_AT_A_TIME = 100
"""Studies of a scan that are checked in one poll: those that get instances meanwhile do not wait for all of them."""


class SettledStudies(Protocol):
    """Remembers beyond this process which studies had their jobs, so that a start need not look at all files."""

    def read_settled(self) -> dict[str, str]:
        """Return for each study the mark of its folders and its urgency with which it had its job."""

    def write_settled(self, study: str, folders: FolderTimes, urgent: bool) -> None:
        """Record that a study with these folders and this urgency had its job."""


OnFutureTime = Callable[[str], None]
"""Called with a sentence about a study whose files bear times that are still to come."""


Awaited = Callable[[StudyInputs], tuple[Role, ...]]
"""Returns the roles that a study lacks, that the model can do without, and that may still come."""


def is_ready(first: float, last: float, now: float, settings: StudySettings) -> bool:
    """Return whether a study counts as complete: nothing arrived for long enough, or the first arrival is long ago.

    `first` and `last` are the times at which its first and last instance arrived, on the same clock as `now`, seconds.
    What came before a pause that made the study complete does not count: late images are waited for, too.
    """
    if now - last >= settings.stable_after_s:
        return True
    return 0 < settings.force_after_s <= now - first


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """When the instances of a study arrived that has no job for them yet, in seconds of the monotonic clock."""

    folders: FolderTimes
    first: float
    last: float
    checked: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A study that could have its job, but waits for an optional series."""

    folders: FolderTimes
    until: float
    """In seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """A study that got its job, or needs none."""

    folders: FolderTimes
    urgent: bool
    checked: float
    """When it was found complete, in seconds of the monotonic clock."""


class Reconciler:
    """Polls the archive for complete studies, in a thread of its own.

    The times of files tell how long a study has been quiet only where this process has not seen it before: the wall
    clock can be set, and be wrong. From then on the monotonic clock counts.
    """

    def __init__(
        self,
        archive: Archive,
        queue: JobQueue,
        settings: StudySettings,
        model_sha256: str,
        on_future_time: OnFutureTime = lambda _sentence: None,
        remembered: SettledStudies | None = None,
        awaited: Awaited | None = None,
    ) -> None:
        self._archive = archive
        self._queue = queue
        self._settings = settings
        self._model_sha256 = model_sha256
        self._on_future_time = on_future_time
        self._remembered = remembered
        self._awaited = awaited
        self._waiting: dict[str, _Waiting] = {}
        """Studies that are quiet, but lack an optional series."""
        self._settled_before: dict[str, str] | None = None if remembered is not None else {}
        """What an earlier process remembered; None until it is read."""
        self._scanned: list[str] = []
        """Studies of the latest scan that are still to be checked, the last one first."""
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._arrivals: dict[str, _Arrivals] = {}
        self._settled: dict[str, _Settled] = {}
        self._next_scan = 0.0
        self._held: frozenset[str] = frozenset()
        """The studies that wait for `glionode adopt`."""
        self._next_look_at_held = 0.0
        self._outage = Outage(_LOG, "creating jobs for received studies")

    def touch(self, study_instance_uid: str) -> None:
        """Note that an instance of this study arrived. Cheap and thread-safe."""
        with self._lock:
            self._touched.add(study_instance_uid)

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set. Errors are logged, and the studies concerned are tried again."""
        while not stop.is_set():
            try:
                self.poll(time.time(), time.monotonic())
                while self._scanned and not stop.is_set():
                    self.poll(time.time(), time.monotonic())
                self._outage.works()
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next poll tries again
                self._outage.failed(f"it failed ({type(exc).__name__})", level=logging.ERROR)
                stop.wait(2.0)
            stop.wait(_POLL_EVERY_S)

    def poll(self, now: float, monotonic: float) -> None:
        """Check the studies that received instances, and every `rescan_every_s` seconds all studies.

        `now` is in seconds since 1970, `monotonic` in seconds of the monotonic clock.
        """
        if self._settled_before is None and self._remembered is not None:
            self._settled_before = self._remembered.read_settled()
        if monotonic >= self._next_scan:
            self._scanned = sorted(self._archive.studies(), reverse=True)
            self._next_scan = monotonic + self._settings.rescan_every_s
            self._look_at_held(monotonic)
        elif self._held and monotonic >= self._next_look_at_held:
            self._look_at_held(monotonic)
        failed: OSError | None = None
        with self._lock:
            touched = sorted(self._touched)
        scanned = [self._scanned.pop() for _ in range(min(_AT_A_TIME, len(self._scanned)))]
        scanned += [study for study, waiting in self._waiting.items() if waiting.until <= monotonic]
        with self._lock:
            self._touched.update(scanned)  # so that none is forgotten where the poll fails
        for study in dict.fromkeys([*touched, *scanned]):
            # Removed before the check, so that an instance that arrives meanwhile adds it again.
            with self._lock:
                self._touched.discard(study)
            try:
                done = self._reconcile(study, now, monotonic)
            except OSError as exc:  # a disk that fails for one study holds up no other
                self.touch(study)
                failed = exc
                continue
            except BaseException:
                self.touch(study)
                raise
            if not done:
                self.touch(study)
        if failed is not None:
            raise failed

    def _look_at_held(self, monotonic: float) -> None:
        """Note which studies wait for `glionode adopt`, and check those that do not wait any more."""
        held = self._queue.held_studies()
        for study in self._held - held:
            self.touch(study)
        self._held = held
        self._next_look_at_held = monotonic + _LOOK_AT_HELD_EVERY_S

    def _reconcile(self, study: str, now: float, monotonic: float) -> bool:
        """Queue a job for a study if it is complete. Return False if the study must be checked again."""
        if study in self._held:
            return True
        folders, urgent = self._archive.folder_times(study), self._archive.is_urgent(study)
        settled = self._settled.get(study)
        if not folders or (settled is not None and (settled.folders, settled.urgent) == (folders, urgent)):
            return True
        if settled is None and (self._settled_before or {}).pop(study, None) == mark(folders, urgent):
            self._settled[study] = _Settled(folders, urgent, monotonic)
            return True
        arrivals = None
        if settled is None or settled.folders != folders:
            arrivals = self._observe(study, folders, now, monotonic)
            if arrivals is None:
                return True
            if not is_ready(arrivals.first, arrivals.last, monotonic, self._settings):
                return False
            folders = arrivals.folders
        if arrivals is None or not self._waits(study, arrivals, monotonic):
            self._add_job(study, urgent)
            if self._remembered is not None:
                self._remembered.write_settled(study, folders, urgent)
            self._settled[study] = _Settled(folders, urgent, monotonic)
            self._arrivals.pop(study, None)
        return True

    def _add_job(self, study: str, urgent: bool) -> None:
        inputs = read_inputs(self._archive, study)
        job = new_job(study, inputs.sop_instance_uids, self._model_sha256, urgent, replacements=inputs.replacements)
        if inputs.paths:
            added = self._queue.add(job)
        else:
            added = self._queue.add_finished(job, JobState.NOT_ELIGIBLE, no_images_reason(inputs.other_instances))
        if added:
            how = ", urgent" if urgent else ""
            _LOG.info("study %s is complete with %d MR images%s: job %s", study, len(inputs.paths), how, added.key)

    def _waits(self, study: str, arrivals: _Arrivals, monotonic: float) -> bool:
        """Return whether a quiet study still waits for an optional series: until force_after_s at the longest.

        Its headers are read once for what has come. It is looked at again when an instance comes, and at that time.
        """
        until = arrivals.first + self._settings.force_after_s
        waiting = self._waiting.pop(study, None)
        if self._awaited is None or until <= monotonic or not self._settings.force_after_s:
            return False
        if waiting is not None and waiting.folders == arrivals.folders:
            self._waiting[study] = waiting
            return True
        absent = self._awaited(read_inputs(self._archive, study))
        if absent:
            self._waiting[study] = _Waiting(arrivals.folders, until)
            names = " and no ".join(absent)
            _LOG.info("study %s has no %s yet; it is waited for %.0f s at most", study, names, until - monotonic)
        return bool(absent)

    def _observe(self, study: str, folders: FolderTimes, now: float, monotonic: float) -> _Arrivals | None:
        """Return when the study's instances arrived; None if they are gone."""
        known, settled = self._arrivals.get(study), self._settled.get(study)
        if known is not None and known.folders == folders:
            self._arrivals[study] = replace(known, checked=monotonic)
            return self._arrivals[study]
        last = max(time_ns for _, time_ns in folders) / 1e9
        if last > now + _CLOCK_TOLERANCE_S:
            self._bring_back(study, last - now, now)
            folders = self._archive.folder_times(study)
        # What this process has not seen at its last look can only have come since then.
        seen = known or settled
        longest = monotonic - seen.checked if seen is not None else math.inf
        quiet = min(max(0.0, now - last), longest)
        if known is None:
            first = self._archive.first_received(study, self._settings.stable_after_s)
            if first is None:
                return None
            since_first = monotonic - max(quiet, min(max(0.0, now - first), longest))
        else:
            since_first = known.first
        self._arrivals[study] = _Arrivals(folders, since_first, monotonic - quiet, monotonic)
        return self._arrivals[study]

    def _bring_back(self, study: str, ahead_s: float, now: float) -> None:
        """Report a study that came while the clock was ahead, and let its times count from now on."""
        sentence = (
            f"The images of study {study} bear times that are {ahead_s / 3600:.1f} h ahead of this host's clock, which "
            "was wrong when they came or is wrong now. The study gets its job as if they had come just now. Check the "
            "clock: `timedatectl` should say that it is synchronized."
        )
        self._on_future_time(sentence)
        _LOG.warning("%s", sentence)
        self._archive.bring_back_times(study, now)
