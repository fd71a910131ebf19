"""Naming studies to the node, in a thread of the plugin's own. The standard library alone; see orthanc_plugin.py.

What Orthanc says (STABLE_STUDY) makes it quick and is lost when Orthanc ends; what Orthanc has makes it sure: at its
start and every few minutes all studies of the last days are compared with those that the node has taken.
"""

import threading
import time
from typing import Any

from plugin.orthanc_script.node_client import Node, NodeAway, NodeRefused, NodeSettings, StudyUnknown
from plugin.orthanc_script.recent_studies import Comparison

_BETWEEN_PAGES_S = 0.1
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_METRICS_EVERY_S = 30.0
_STOP_S = 5.0
_MOST_WAITING = 100_000
"""Beyond that a study is left to the next comparison."""


class Submissions:
    """The studies that wait to be named, and the thread that does it."""

    def __init__(self, orthanc: Any, node: Node, settings: NodeSettings) -> None:
        self._orthanc = orthanc
        self._node = node
        self._settings = settings
        self._waiting: dict[str, str | None] = {}
        """Identifiers, oldest first, with the LastUpdate for which they wait where that is known."""
        self._settled: dict[str, str] = {}
        """LastUpdate of the studies that the node has taken."""
        self._database: str | None = None
        """Which one the node has; what was taken into another one is not taken."""
        self._refused: dict[str, str] = {}
        """Why the node did not take studies, as it was said."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._submitted = 0
        self._failures = 0
        self._unknown_said = False
        """Whether it was said, since a study was taken, that the node does not find one."""
        self._not_before = 0.0
        self._comparison: Comparison | None = None
        self._next_page = 0.0
        self._next_metrics = 0.0

    @property
    def waiting(self) -> int:
        """How many studies wait."""
        with self._lock:
            return len(self._waiting)

    def add(self, study: str, last_update: str | None = None) -> None:
        """Name a study soon. Never waits; for any thread."""
        with self._lock:
            if study in self._waiting or len(self._waiting) < _MOST_WAITING:
                self._waiting[study] = last_update
        self._wake.set()

    def start(self) -> None:
        """Begin with a comparison."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="glionode", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; what waits is found again at the next start."""
        self._stop.set()
        self._wake.set()
        self._node.abort()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None

    def turn(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); gives the seconds until there is something to do again."""
        if self._settings.submit_stable and now >= self._next_page:
            self._next_page = now + self._settings.reconcile_every_s  # whatever becomes of this one
            self._next_page = now + self._compare()
        if now >= self._not_before:
            self._submit_waiting(now)
        if now >= self._next_metrics:
            self._count_node()
            self._next_metrics = now + _METRICS_EVERY_S
        self._metric("glionode_waiting", self.waiting)
        due = [self._next_page, self._next_metrics] if self._settings.submit_stable else [self._next_metrics]
        if self.waiting:
            due.append(self._not_before)
        return max(0.0, min(due) - now)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause_s = _LONGEST_PAUSE_S
            self._wake.clear()
            try:
                pause_s = self.turn(time.monotonic())
            except Exception as exc:  # noqa: BLE001 - the outermost loop of this thread; the next turn makes it good
                self._orthanc.LogError(f"glionode: comparing or naming studies failed ({type(exc).__name__})")
            # A node that is away is asked again in its time, however many studies become stable meanwhile.
            if time.monotonic() < self._not_before:
                self._stop.wait(max(0.0, min(pause_s, self._not_before - time.monotonic())))
            else:
                self._wake.wait(pause_s)

    def _submit_waiting(self, now: float) -> None:
        while not self._stop.is_set() and (named := self._take()) is not None:
            study, last_update = named
            try:
                self._node.submit(study)
            except NodeAway as exc:
                self._put_back(study, last_update)
                self._pause(now, str(exc))
                return
            except StudyUnknown as exc:
                # Deleted meanwhile, or the node asks another Orthanc: the next comparison tells.
                if not self._unknown_said:
                    self._orthanc.LogWarning(f"glionode: study {study} was not taken. {exc}")
                self._unknown_said = True
            except NodeRefused as exc:  # the next comparison names it again
                if self._refused.get(study) != str(exc):
                    self._orthanc.LogError(f"glionode: study {study} was not taken. {exc}")
                self._refused[study] = str(exc)
                continue
            else:
                self._unknown_said = False
                self._refused.pop(study, None)
                self._settle(study, last_update)
                self._submitted += 1
                self._metric("glionode_submitted", self._submitted)
            self._answered()

    def _take(self) -> tuple[str, str | None] | None:
        """Off the list before it is named: one that changes meanwhile is put on it again."""
        with self._lock:
            study = next(iter(self._waiting), None)
            return None if study is None else (study, self._waiting.pop(study))

    def _put_back(self, study: str, last_update: str | None) -> None:
        with self._lock:
            self._waiting.setdefault(study, last_update)

    def _settle(self, study: str, last_update: str | None) -> None:
        if last_update is not None:
            self._settled[study] = last_update

    def _pause(self, now: float, why: str) -> None:
        if not self._failures:
            self._orthanc.LogWarning(f"glionode: studies wait. {why}")
        self._not_before = now + min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 10)
        self._metric("glionode_node_up", 0)

    def _answered(self) -> None:
        if self._failures:
            self._orthanc.LogWarning("glionode: the node answers again")
        self._failures = 0
        self._metric("glionode_node_up", 1)

    def _compare(self) -> float:
        """Look at one more page of Orthanc's studies; gives the seconds until the next one."""
        comparison, self._comparison = self._comparison, None  # whatever goes wrong, the next one begins anew
        try:
            comparison = comparison or Comparison(self._orthanc, self._settings.reconcile_days)
            stable = comparison.next_page()
        except (self._orthanc.OrthancException, ValueError, KeyError, TypeError, ArithmeticError) as exc:
            self._orthanc.LogError(f"glionode: studies were not compared ({type(exc).__name__}); it is tried again")
            return self._settings.reconcile_every_s
        for study, last_update in stable.items():
            if self._settled.get(study) != last_update:
                self.add(study, last_update)
        if not comparison.over:
            self._comparison = comparison
            return _BETWEEN_PAGES_S
        self._settled = {study: update for study, update in self._settled.items() if study in comparison.recent}
        self._refused = {study: why for study, why in self._refused.items() if study in comparison.recent}
        return self._settings.reconcile_every_s

    def _count_node(self) -> None:
        try:
            status = self._node.status()
        except (NodeAway, NodeRefused, StudyUnknown):
            self._metric("glionode_node_up", 0)
            return
        self._metric("glionode_node_up", 1)
        self._forget_if_replaced(status.get("database"))
        jobs = status.get("jobs")
        for state, count in jobs.items() if isinstance(jobs, dict) else ():
            if str(state).replace("_", "").isalpha() and isinstance(count, int):
                self._metric(f"glionode_jobs_{state}", count)

    def _forget_if_replaced(self, database: object) -> None:
        if not isinstance(database, str):
            return
        if self._database not in (None, database):
            self._orthanc.LogWarning(
                "glionode: the node has another database; all studies of late are named to it anew"
            )
            self._settled.clear()
            self._comparison, self._next_page = None, 0.0
        self._database = database

    def _metric(self, name: str, value: float) -> None:
        self._orthanc.SetMetricsValue(name, float(value), self._orthanc.MetricsType.DEFAULT)
