"""Time the steps of a study and tell who listens. The pipeline itself sees no clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plugin.archive.report import StepTime

STEPS = ("choose", "read", "align", "normalise", "segment", "refine", "restore", "measure", "picture", "encode")
"""In the order of the way of a study."""


class Stopwatch:
    """Collects how long each step took."""

    def __init__(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        """`on_step` is called with a step's name as it begins."""
        self._on_step = on_step
        self._times: list[StepTime] = []
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time the block as `step`."""
        self._on_step(step)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._times.append(StepTime(step, time.perf_counter() - started))

    @property
    def times(self) -> tuple[StepTime, ...]:
        """The steps so far, then the total since the watch was made."""
        return (*self._times, StepTime("total", time.perf_counter() - self._started))
