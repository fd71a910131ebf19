"""A job whose images or results cannot be moved: it waits, and that is not held against it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.archive.study_inputs import StudyInputs
from plugin.database.pool import Database
from plugin.errors import ArchiveAway, NotInArchive
from plugin.jobs.job import Cancelled, Job, JobState, Leave, Restart, Retried, Source, new_job
from plugin.jobs.prior_results import PriorResults
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from plugin.sources.study_source import Workspace
from plugin.worker.job_runner import JobRunner, Trouble
from plugin.worker.progress_pipe import ProgressReader, ProgressWriter
from tests.support.node import new_study_uid
from tests.support.stand_in_segmenter import StandInOutcome

UIDS = ("1.2.1", "1.2.2")


class FailingSupply:
    """An archive that fails where a test wants it to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing: dict[str, Exception] = {}
        self.uids: tuple[str, ...] = UIDS

    def _perhaps_fail(self, step: str) -> None:
        if step in self.failing:
            raise self.failing[step]

    def inputs(self, job: Job) -> StudyInputs:
        self._perhaps_fail("inputs")
        return StudyInputs(tuple(Path(uid) for uid in self.uids), self.uids, 0)

    @contextmanager
    def workspace(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        self._perhaps_fail("workspace")
        yield Workspace(inputs.paths, self.folder / "results")

    def store_results(self, job: Job, results: Path) -> Path:
        self._perhaps_fail("store_results")
        return results

    def close(self) -> None:
        return None


def segment(paths: tuple[Path, ...], out: Path, past: PriorResults, on_step: Callable[[str], None]) -> StandInOutcome:
    on_step("segment")
    out.mkdir()
    return StandInOutcome("segmented", None, ())


def troubles(database: Database) -> list[tuple[str, str]]:
    with database.pool.connection() as connection:
        return connection.execute("SELECT place, message FROM glionode_troubles").fetchall()


@pytest.fixture
def runner_of(queue: JobQueue, database: Database) -> Iterator[Callable[[FailingSupply], JobRunner]]:
    """A runner that nobody watches."""
    reading, writing = multiprocessing.Pipe(duplex=False)

    def make(supply: FailingSupply) -> JobRunner:
        trouble = Trouble(database.pool, "worker on a host")
        return JobRunner(Settings(), supply, queue, trouble, IntendedUse.RESEARCH, segment, ProgressWriter(writing))

    yield make
    reading.close()
    writing.close()


@pytest.mark.parametrize("when", ["before", "while it is fetched", "before it is retried"])
def test_a_study_of_which_something_was_deleted_in_orthanc_is_done_with_the_rest(
    when: str, queue: JobQueue, runner_of: Callable[[FailingSupply], JobRunner], tmp_path: Path
) -> None:
    supply = FailingSupply(tmp_path)
    runner = runner_of(supply)
    study = new_study_uid()
    job = new_job(study, UIDS, "model", urgent=True, source=Source.ORTHANC)
    queue.add(job)
    if when == "while it is fetched":
        real, supply.failing["workspace"] = supply.inputs, NotInArchive("It is gone.")

        def once_whole(of: Job) -> StudyInputs:
            found, supply.uids, supply.inputs = real(of), UIDS[:1], real  # type: ignore[method-assign]
            return found

        supply.inputs = once_whole  # type: ignore[method-assign]
    else:
        supply.uids = UIDS[:1]
    if when == "before it is retried":
        assert queue.change(job.key, Cancelled()) != Leave()
        runner.do(job.key)
        assert queue.change(job.key, Retried()) == Restart()
    runner.do(job.key)
    before = queue.peek(job.key)
    assert before is not None
    assert before.state == JobState.SUPERSEDED
    successor = queue.peek(new_job(study, UIDS[:1], "model").key)
    assert successor is not None
    found = (successor.state, successor.urgent, successor.source, successor.image_count)
    assert found == (JobState.QUEUED, True, Source.ORTHANC, 1)
    supply.failing.clear()
    runner.do(successor.key)
    runner.do(job.key)
    done = queue.peek(successor.key)
    assert done is not None
    assert done.state == JobState.SEGMENTED


def test_a_study_that_was_deleted_in_orthanc_is_over(
    queue: JobQueue, database: Database, runner_of: Callable[[FailingSupply], JobRunner], tmp_path: Path
) -> None:
    supply, study = FailingSupply(tmp_path), new_study_uid()
    runner = runner_of(supply)
    job = new_job(study, UIDS, "model", source=Source.ORTHANC)
    queue.add(job)
    supply.uids = ()
    runner.do(job.key)
    with database.pool.connection() as connection:
        line = show_job(connection, study).job
    assert (line.state, line.key != job.key) == ("not_eligible", True)
    assert line.reason is not None
    assert "deleted in Orthanc" in line.reason
    supply.uids = UIDS  # it is sent again
    assert queue.add(job)
    runner.do(job.key)
    with database.pool.connection() as connection:
        assert show_job(connection, study).job.state == "segmented"
    more = new_job(study, (*UIDS, "1.2.3"), "model", source=Source.ORTHANC)
    queue.add(more)
    supply.uids = ()  # with its result, nothing is left to be said of it
    runner.do(more.key)
    with database.pool.connection() as connection:
        assert show_job(connection, study).job.key == job.key


def test_of_its_own_archive_the_node_has_the_next_look(
    queue: JobQueue, runner_of: Callable[[FailingSupply], JobRunner], tmp_path: Path
) -> None:
    supply, study = FailingSupply(tmp_path), new_study_uid()
    job = new_job(study, UIDS, "model")
    queue.add(job)
    supply.uids = (*UIDS, "1.2.3")
    runner_of(supply).do(job.key)
    assert queue.peek(new_job(study, supply.uids, "model").key) is None


@pytest.mark.parametrize("step", ["inputs", "workspace", "store_results"])
@pytest.mark.parametrize("failure", [ArchiveAway("The archive is away."), NotInArchive("It is gone.")])
def test_it_waits_and_is_done_later(
    step: str, failure: Exception, queue: JobQueue, database: Database, tmp_path: Path
) -> None:
    supply = FailingSupply(tmp_path)
    steps: list[str] = []
    reading, writing = multiprocessing.Pipe(duplex=False)
    runner = JobRunner(
        *(Settings(), supply, queue, Trouble(database.pool, "worker on a host"), IntendedUse.RESEARCH),
        *(segment, ProgressWriter(writing)),
    )
    job = new_job(new_study_uid(), UIDS, "model")
    queue.add(job)
    supply.failing[step] = failure
    for _ in range(4):
        runner.do(job.key)
        waiting = queue.peek(job.key)
        assert waiting is not None
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0), "no try is counted"
    assert troubles(database) == [("worker on a host", str(failure))]
    supply.failing.clear()
    runner.do(job.key)
    done = queue.peek(job.key)
    assert done is not None
    assert (done.state, done.attempts) == (JobState.SEGMENTED, 1)
    assert troubles(database) == []
    reader = ProgressReader(reading, lambda name, seconds: steps.append(name) if seconds >= 0 else None)
    assert reader.latest() is None, "nothing is in hand any more"
    assert steps[-4:] == ["fetch", "begin", "segment", "keep"]
    reading.close()
    writing.close()
