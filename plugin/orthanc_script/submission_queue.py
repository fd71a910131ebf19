"""Submit studies to the node, in a thread of the script's own. Imports the standard library alone; see register.py.

A change of Orthanc (STABLE_STUDY) makes a submission quick, but is lost when Orthanc stops before the study is
submitted, unless this Orthanc keeps it in a queue of its database. So at the start and every few minutes all studies of
the last days are compared with those that the node has accepted.
"""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from plugin.orthanc_script.audit import record_submission
from plugin.orthanc_script.node_client import Node, NodeRefused, NodeSettings, NodeUnavailable, StudyUnknown
from plugin.orthanc_script.stored_queue import StoredQueue, open_stored_queue

_PAGE = 50
"""Studies in one request to Orthanc, which takes some 10 ms."""
_BETWEEN_PAGES_S = 0.1
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_METRICS_EVERY_S = 30.0
_STOP_TIMEOUT_S = 5.0
_MOST_WAITING = 100_000
"""Further studies are left to the next comparison."""


class StudyScan:
    """A scan over all studies of Orthanc, a page at a time, because a call of its SDK holds Python's global lock.

    A study that is deleted meanwhile may hide another one, which the next scan finds.
    """

    def __init__(self, orthanc: Any, days: float) -> None:
        """Scan for studies that changed in the last `days`."""
        self._orthanc = orthanc
        self._oldest = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y%m%dT%H%M%S")  # as Orthanc writes it
        self._start = 0
        self.recent: set[str] = set()
        """Identifiers of the studies that changed in these days, stable or not."""
        self.done = False

    def next_page(self) -> dict[str, str]:
        """Return the recent stable studies of the next page, with their LastUpdate. Raises what Orthanc raises."""
        page = json.loads(self._orthanc.RestApiGet(f"/studies?expand&since={self._start}&limit={_PAGE}"))
        self._start += _PAGE
        self.done = len(page) < _PAGE
        recent = {str(study["ID"]): study for study in page if str(study.get("LastUpdate", "")) >= self._oldest}
        self.recent |= recent.keys()
        return {name: str(study["LastUpdate"]) for name, study in recent.items() if study.get("IsStable")}


class SubmissionQueue:
    """The studies that wait to be submitted, and the thread that submits them."""

    def __init__(self, orthanc: Any, node: Node, settings: NodeSettings) -> None:
        self._orthanc = orthanc
        self._node = node
        self._settings = settings
        self._waiting: dict[str, str | None] = {}
        """Identifiers, oldest first, with the study's LastUpdate where it is known."""
        self._accepted: dict[str, str] = {}
        """LastUpdate of the studies that the node has accepted."""
        self._database: str | None = None
        """The identity of the node's database; studies that another database accepted are submitted again."""
        self._refused: dict[str, str] = {}
        """Why the node refused studies, as it was logged."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stored: StoredQueue | None = None
        self._submitted = 0
        self._failures = 0
        self._unknown_logged = False
        """Whether it was logged, since the last accepted study, that the node does not find a study."""
        self._next_attempt = 0.0
        self._scan: StudyScan | None = None
        self._next_page = 0.0
        self._next_metrics = 0.0

    @property
    def waiting(self) -> int:
        """How many studies wait to be submitted."""
        with self._lock:
            return len(self._waiting)

    def add_stable(self, study: str) -> None:
        """Queue a study that became stable, so that it outlives the end of Orthanc where this Orthanc can do that."""
        if self._stored is not None:
            try:
                self._stored.add(study)
            except self._orthanc.OrthancException as exc:
                self._orthanc.LogWarning(
                    f"glionode: study {study} waits in memory alone: Orthanc's queue failed ({type(exc).__name__})"
                )
            else:
                self._wake.set()
                return
        self.add(study)

    def add(self, study: str, last_update: str | None = None) -> None:
        """Queue a study. Returns at once; may be called from any thread."""
        with self._lock:
            if study in self._waiting or len(self._waiting) < _MOST_WAITING:
                self._waiting[study] = last_update
        self._wake.set()

    def start(self) -> None:
        """Start the thread, which begins with what was left over and a comparison. Orthanc must have started."""
        self._stored = open_stored_queue(self._orthanc)
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="glionode", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread; the studies that wait are found again at the next start."""
        self._stop.set()
        self._wake.set()
        self._node.abort()
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_S)
            self._thread = None

    def run_due(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); return the seconds until something is due again."""
        if self._settings.submit_stable and now >= self._next_page:
            self._next_page = now + self._settings.reconcile_every_s  # also if the comparison raises
            self._next_page = now + self._compare_page()
        self._read_stored()
        if now >= self._next_attempt:
            self._submit_waiting(now)
        if now >= self._next_metrics:
            self._update_metrics()
            self._next_metrics = now + _METRICS_EVERY_S
        self._metric("glionode_waiting", self.waiting)
        due = [self._next_page, self._next_metrics] if self._settings.submit_stable else [self._next_metrics]
        if self.waiting:
            due.append(self._next_attempt)
        return max(0.0, min(due) - now)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause_s = _LONGEST_PAUSE_S
            self._wake.clear()
            try:
                pause_s = self.run_due(time.monotonic())
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next round tries again
                self._orthanc.LogError(f"glionode: comparing or submitting studies failed ({type(exc).__name__})")
            # The next attempt at a node that is down comes at its time, however many studies become stable meanwhile.
            if time.monotonic() < self._next_attempt:
                self._stop.wait(max(0.0, min(pause_s, self._next_attempt - time.monotonic())))
            else:
                self._wake.wait(pause_s)

    def _read_stored(self) -> None:
        """Queue what waits in Orthanc's queue."""
        if self._stored is not None and self._settings.submit_stable:
            for study in self._stored.read(_MOST_WAITING - self.waiting):
                with self._lock:
                    self._waiting.setdefault(study, None)

    def _submit_waiting(self, now: float) -> None:
        while not self._stop.is_set() and (first := self._pop()) is not None:
            study, last_update = first
            try:
                self._node.submit(study)
            except NodeUnavailable as exc:
                self._put_back(study, last_update)
                self._pause(now, str(exc))
                return
            except StudyUnknown as exc:
                # It was deleted meanwhile, or the node uses another Orthanc: the next comparison tells.
                if not self._unknown_logged:
                    self._orthanc.LogWarning(f"glionode: study {study} was not accepted. {exc}")
                self._unknown_logged = True
            except NodeRefused as exc:  # the next comparison queues it again
                if self._refused.get(study) != str(exc):
                    self._orthanc.LogError(f"glionode: study {study} was not accepted. {exc}")
                self._refused[study] = str(exc)
                continue
            else:
                self._unknown_logged = False
                self._refused.pop(study, None)
                if last_update is not None:
                    self._accepted[study] = last_update
                self._submitted += 1
                record_submission(self._orthanc, study, "glionode", {"automatic": True})
                self._metric("glionode_submitted", self._submitted)
            self._forget_stored(study)
            self._note_success()

    def _forget_stored(self, study: str) -> None:
        """Remove a study that the node accepted or does not find; what it refused stays and is tried again."""
        if self._stored is not None:
            self._stored.remove(study)

    def _pop(self) -> tuple[str, str | None] | None:
        """Remove the oldest study, before it is submitted, so that one that changes meanwhile is queued again."""
        with self._lock:
            study = next(iter(self._waiting), None)
            return None if study is None else (study, self._waiting.pop(study))

    def _put_back(self, study: str, last_update: str | None) -> None:
        with self._lock:
            self._waiting.setdefault(study, last_update)

    def _pause(self, now: float, why: str) -> None:
        if not self._failures:
            self._orthanc.LogWarning(f"glionode: studies wait to be submitted. {why}")
        self._next_attempt = now + min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 10)
        self._metric("glionode_node_up", 0)

    def _note_success(self) -> None:
        if self._failures:
            self._orthanc.LogWarning("glionode: the node answers again")
        self._failures = 0
        self._metric("glionode_node_up", 1)

    def _compare_page(self) -> float:
        """Queue the studies of one more page that the node has not accepted; return the seconds until the next page."""
        scan, self._scan = self._scan, None  # after an error the next scan starts from the beginning
        try:
            scan = scan or StudyScan(self._orthanc, self._settings.reconcile_days)
            stable = scan.next_page()
        except (self._orthanc.OrthancException, ValueError, KeyError, TypeError, ArithmeticError) as exc:
            self._orthanc.LogError(f"glionode: comparing studies failed ({type(exc).__name__}); it will be repeated")
            return self._settings.reconcile_every_s
        for study, last_update in stable.items():
            if self._accepted.get(study) != last_update:
                self.add(study, last_update)
        if not scan.done:
            self._scan = scan
            return _BETWEEN_PAGES_S
        self._accepted = {study: update for study, update in self._accepted.items() if study in scan.recent}
        self._refused = {study: why for study, why in self._refused.items() if study in scan.recent}
        return self._settings.reconcile_every_s

    def _update_metrics(self) -> None:
        try:
            status = self._node.status()
        except (NodeUnavailable, NodeRefused, StudyUnknown):
            self._metric("glionode_node_up", 0)
            return
        self._metric("glionode_node_up", 1)
        self._check_database(status.get("database"))
        jobs = status.get("jobs")
        for state, count in jobs.items() if isinstance(jobs, dict) else ():
            if str(state).replace("_", "").isalpha() and isinstance(count, int):
                self._metric(f"glionode_jobs_{state}", count)

    def _check_database(self, database: object) -> None:
        """Submit all recent studies again if the node has another database than before."""
        if not isinstance(database, str):
            return
        if self._database not in (None, database):
            self._orthanc.LogWarning(
                "glionode: the node has another database; all recent studies are submitted to it again"
            )
            self._accepted.clear()
            self._scan, self._next_page = None, 0.0
        self._database = database

    def _metric(self, name: str, value: float) -> None:
        self._orthanc.SetMetricsValue(name, float(value), self._orthanc.MetricsType.DEFAULT)
