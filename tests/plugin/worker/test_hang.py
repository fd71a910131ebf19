"""When a worker counts as hanging, and whether its job is the reason."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from plugin.worker import hang
from plugin.worker.hang import Hang, HangWatch
from plugin.worker.progress_pipe import ProgressReader, ProgressWriter
from tests.support.node import wait_until

LIMIT_S = 900.0


class Worker:
    """A watched worker, whose time is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
        self.now = 1000.0
        monkeypatch.setattr(hang, "time", SimpleNamespace(monotonic=lambda: self.now))
        reader, self.pipe = multiprocessing.Pipe(duplex=False)
        self.writer = ProgressWriter(self.pipe)
        self.watch = HangWatch(ProgressReader(reader, lambda step, seconds: None), pid, LIMIT_S)

    def show_life(self) -> None:
        self.pipe.send(None)

    def found_after(self, seconds: float, lives: bool = True) -> Hang | None:
        """Look every second for some time; return what was found last."""
        found = None
        for _ in range(int(seconds)):
            self.now += 1
            if lives:
                self.show_life()
            found = self.watch.find()
        return found


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]) -> Worker:
    made = Worker(monkeypatch, process.pid)
    made.show_life()
    return made


def test_a_step_that_takes_too_long_is_the_jobs_fault(worker: Worker) -> None:
    worker.writer.step("key", "align")
    assert worker.found_after(LIMIT_S) is None
    assert worker.found_after(2) == Hang("the step align took longer than 900 s", "key", is_of_job=True)
    worker.writer.step("key", "segment")
    assert worker.found_after(LIMIT_S) is None, "each step has its own time"
    worker.writer.idle()
    assert worker.found_after(2 * LIMIT_S) is None


@pytest.mark.parametrize("step", ["fetch", "begin", "keep"])
def test_a_transfer_that_takes_too_long_is_not_the_jobs_fault(worker: Worker, step: str) -> None:
    worker.writer.step("key", step)
    found = worker.found_after(LIMIT_S + 2)
    assert found == Hang(f"the step {step} took longer than 900 s", "key", is_of_job=False)


def test_time_in_which_the_supervisor_stood_still_does_not_count(worker: Worker) -> None:
    worker.writer.step("key", "align")
    worker.watch.find()
    worker.now += 10 * LIMIT_S  # the machine was suspended
    assert worker.watch.find() is None
    assert worker.found_after(LIMIT_S - 10) is None


def test_a_worker_that_is_stopped_is_ended_and_not_its_job(worker: Worker, process: subprocess.Popen[bytes]) -> None:
    worker.writer.step("key", "align")
    assert worker.found_after(70, lives=False) is None, "a library holds Python's lock"
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: hang._state_of(process.pid) == "T", "it is stopped")
    assert worker.found_after(1, lives=False) == Hang("it was stopped from outside (SIGSTOP)", "key", is_of_job=False)


def test_an_idle_worker_that_shows_no_life_is_ended(worker: Worker) -> None:
    assert worker.found_after(3600) is None
    assert worker.found_after(60, lives=False) is None
    found = worker.found_after(2, lives=False)
    assert found is not None
    assert (found.job_key, found.is_of_job, "no sign of life" in found.why) == (None, False, True)


def test_a_worker_that_does_not_load_its_model_is_ended(
    monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]
) -> None:
    worker = Worker(monkeypatch, process.pid)
    assert worker.found_after(LIMIT_S, lives=False) is None
    found = worker.found_after(2, lives=False)
    assert found == Hang("it did not load its model within 900 s", None, is_of_job=False)


def test_a_worker_shows_life_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, pipe = multiprocessing.Pipe(duplex=False)
    progress = ProgressReader(reader, lambda step, seconds: None)
    assert (progress.latest(), progress.has_started) == (None, False)
    ProgressWriter(pipe).start_signs_of_life()
    wait_until(lambda: progress.latest() is None and progress.has_started, "it shows life")
    reader.close()
