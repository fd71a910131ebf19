"""A job whose images or results cannot be moved: it waits, and that is not held against it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_trial import new_study_uid
from stand_in_segmenter import StandInOutcome

from models.package import IntendedUse
from plugin.archive.study_inputs import StudyInputs
from plugin.database import Database
from plugin.jobs.job_queue import JobQueue
from plugin.jobs.jobs import Job, JobState, new_job
from plugin.jobs.past import Past
from plugin.settings import Settings
from plugin.web.archive_client import ArchiveAway, NotInArchive
from plugin.worker.in_hand import InHandReader, InHandWriter
from plugin.worker.job_runner import JobRunner, Trouble
from plugin.worker.supply import Bench

UIDS = ("1.2.1", "1.2.2")


class FailingSupply:
    """An archive that fails where a test wants it to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing: dict[str, Exception] = {}

    def _perhaps_fail(self, step: str) -> None:
        if step in self.failing:
            raise self.failing[step]

    def inputs(self, study_instance_uid: str) -> StudyInputs:
        self._perhaps_fail("inputs")
        return StudyInputs(tuple(Path(uid) for uid in UIDS), UIDS, 0)

    @contextmanager
    def bench(self, job: Job, inputs: StudyInputs) -> Iterator[Bench]:
        self._perhaps_fail("bench")
        yield Bench(inputs.paths, self.folder / "results")

    def keep(self, job: Job, results: Path) -> Path:
        self._perhaps_fail("keep")
        return results

    def close(self) -> None:
        return None


def segment(paths: tuple[Path, ...], out: Path, past: Past, on_step: Callable[[str], None]) -> StandInOutcome:
    on_step("segment")
    out.mkdir()
    return StandInOutcome("segmented", None, ())


@pytest.fixture
def queue(database: Database) -> JobQueue:
    with database.pool.connection() as connection:
        connection.execute("TRUNCATE glionode_jobs, glionode_troubles, glionode_audit, procrastinate_jobs CASCADE")
    return JobQueue(database)


def troubles(database: Database) -> list[tuple[str, str]]:
    with database.pool.connection() as connection:
        return connection.execute("SELECT place, message FROM glionode_troubles").fetchall()


@pytest.mark.parametrize("step", ["inputs", "bench", "keep"])
@pytest.mark.parametrize("failure", [ArchiveAway("The archive is away."), NotInArchive("It is gone.")])
def test_it_waits_and_is_done_later(
    step: str, failure: Exception, queue: JobQueue, database: Database, tmp_path: Path
) -> None:
    supply = FailingSupply(tmp_path)
    steps: list[str] = []
    reading, writing = multiprocessing.Pipe(duplex=False)
    runner = JobRunner(
        *(Settings(), supply, queue, Trouble(database.pool, "worker on a host"), IntendedUse.RESEARCH),
        *(segment, InHandWriter(writing)),
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
    reader = InHandReader(reading, lambda name, seconds: steps.append(name) if seconds >= 0 else None)
    assert reader.latest() is None, "nothing is in hand any more"
    assert steps[-4:] == ["fetch", "begin", "segment", "keep"]
    reading.close()
    writing.close()
