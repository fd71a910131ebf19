"""Measure the duration of a study's steps and report when each begins. The pipeline itself reads no clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plugin.archive.report import StepTime

STEPS = ("choose", "read", "align", "normalise", "segment", "refine", "restore", "measure", "picture", "encode")
"""In the order in which a study passes them."""


class Stopwatch:
    """Collects the durations of steps."""

    def __init__(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        """Call `on_step` with the name of each step as it begins."""
        self._on_step = on_step
        self._times: list[StepTime] = []
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure the block as `step`."""
        self._on_step(step)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._times.append(StepTime(step, time.perf_counter() - started))

    @property
    def times(self) -> tuple[StepTime, ...]:
        """The steps so far, each once with its time in all, then the total time since the stopwatch was created."""
        steps = dict.fromkeys(each.step for each in self._times)
        summed = [StepTime(step, sum(each.seconds for each in self._times if each.step == step)) for step in steps]
        return (*summed, StepTime("total", time.perf_counter() - self._started))
