"""Decide when a worker process hangs, and whether its job is the reason.

Time counts only while the supervisor looks: where it stood still itself, as on a machine that was suspended, the
worker did so, too.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from plugin.worker.progress_pipe import ProgressReader

_LONGEST_LOOK_S = 5.0
"""What counts at most between two looks."""
_STARTS_WITHIN_S = 300.0
"""Or within the limit of a step, if that is longer."""
_SILENT_S = 60.0
"""A worker shows every 5 s that it runs, except where a library holds Python's lock in a step."""
_TRANSFERS = ("fetch", "begin", "keep")
"""Steps that wait for disk and network alone: what hangs there hangs for any study."""
_STOPPED, _WAITS_FOR_DEVICE = ("T", "t"), ("D",)


@dataclass(frozen=True, slots=True)
class Hang:
    """Why a worker has to be ended, as a clause."""

    why: str
    job_key: str | None
    """The job that it runs; None if it runs none."""
    is_of_job: bool
    """Whether the job would most likely hang again, so that it is not tried again by itself."""


class HangWatch:
    """Watches one worker process."""

    def __init__(self, progress: ProgressReader, pid: int, step_limit_s: float) -> None:
        self._progress = progress
        self._pid = pid
        self._step_limit_s = step_limit_s
        self._looked_at = self._heard_at = time.monotonic()
        self._step = progress.latest()
        self._in_step_s = self._silent_s = 0.0

    def find(self) -> Hang | None:
        """Return why the worker hangs; None if it does not, or not for long enough."""
        now = time.monotonic()
        passed_s, self._looked_at = min(now - self._looked_at, _LONGEST_LOOK_S), now
        step, heard_at = self._progress.latest(), self._progress.heard_at
        self._in_step_s = self._in_step_s + passed_s if step == self._step else 0.0
        self._silent_s = self._silent_s + passed_s if heard_at == self._heard_at else 0.0
        self._step, self._heard_at = step, heard_at
        key = step.job_key if step is not None else None
        if self._silent_s > _SILENT_S and _state_of(self._pid) in _STOPPED:
            return Hang("it was stopped from outside (SIGSTOP)", key, is_of_job=False)
        if step is None:
            return self._find_outside_of_jobs()
        if self._in_step_s <= self._step_limit_s or self._progress.latest() != step:  # it ends this very moment
            return None
        why = f"the step {step.step} took longer than {self._step_limit_s:g} s"
        if _state_of(self._pid) in _WAITS_FOR_DEVICE:
            return Hang(f"{why}, waiting for a disk or a device", key, is_of_job=False)
        return Hang(why, key, is_of_job=step.step not in _TRANSFERS)

    def _find_outside_of_jobs(self) -> Hang | None:
        if not self._progress.has_started:
            limit_s = max(_STARTS_WITHIN_S, self._step_limit_s)
            if self._in_step_s > limit_s:
                return Hang(f"it did not load its model within {limit_s:g} s", None, is_of_job=False)
        elif self._silent_s > _SILENT_S:
            return Hang(f"it has shown no sign of life for {_SILENT_S:g} s", None, is_of_job=False)
        return None


def _state_of(pid: int) -> str:
    """Return the state of a process (proc(5)); empty where that is not known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""
