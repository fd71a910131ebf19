"""Jobs whose images or results cannot be transferred are postponed, and the attempt is not counted."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.archive.study_inputs import StudyInputs
from plugin.database.pool import Database
from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.jobs.job import Cancelled, Finished, Ignore, Job, JobSource, JobState, Restart, Retried, new_job
from plugin.jobs.prior_results import PriorResults
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from plugin.sources.study_source import Workspace
from plugin.worker.job_runner import JobRunner, OnStep, StudyOutcome, WorkerTrouble
from plugin.worker.progress_pipe import ProgressReader, ProgressWriter
from tests.support.node import finish_job, new_study_uid, query

UIDS = ("1.2.1", "1.2.2")


class FailingSource:
    """A study source that raises in the steps named in `failing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing: dict[str, Exception] = {}
        self.uids: tuple[str, ...] = UIDS
        self.replacements = 0

    def _perhaps_fail(self, step: str) -> None:
        if step in self.failing:
            raise self.failing[step]

    def inputs(self, job: Job) -> StudyInputs:
        self._perhaps_fail("inputs")
        return StudyInputs(tuple(Path(uid) for uid in self.uids), self.uids, 0, replacements=self.replacements)

    @contextmanager
    def workspace(self, job: Job, inputs: StudyInputs) -> Iterator[Workspace]:
        self._perhaps_fail("workspace")
        yield Workspace(inputs.paths, self.folder / "results")

    def store_results(self, job: Job, results: Path) -> Path:
        self._perhaps_fail("store_results")
        return results

    def close(self) -> None:
        return None


def segment(files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
    on_step("segment")
    out.mkdir()
    return StudyOutcome("segmented", None, ())


def troubles(database: Database) -> list[tuple[str, str]]:
    return query(database, "SELECT place, message FROM glionode_troubles")


@pytest.fixture
def progress_pipe() -> Iterator[tuple[Connection, Connection]]:
    """A pipe for the progress of a worker: its ends for reading and for writing."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


@pytest.fixture
def make_runner(
    queue: JobQueue, database: Database, progress_pipe: tuple[Connection, Connection]
) -> Callable[[FailingSource], JobRunner]:
    """Make a runner without a supervisor."""

    def make(source: FailingSource) -> JobRunner:
        return JobRunner(
            settings=Settings(),
            source=source,
            queue=queue,
            trouble=WorkerTrouble(database.pool, "worker on a host"),
            intended_use=IntendedUse.RESEARCH,
            segment=segment,
            progress=ProgressWriter(progress_pipe[1]),
        )

    return make


def test_a_result_whose_images_were_replaced_meanwhile_is_dropped(
    queue: JobQueue, database: Database, make_runner: Callable[[FailingSource], JobRunner], tmp_path: Path
) -> None:
    source = FailingSource(tmp_path)

    def correct(files: Sequence[Path], out: Path, prior_results: PriorResults, on_step: OnStep) -> StudyOutcome:
        source.replacements = 1
        return segment(files, out, prior_results, on_step)

    runner = replace(make_runner(source), segment=correct)
    job = new_job(new_study_uid(), UIDS, "model")
    queue.add(job)
    runner.run(job.key)
    assert (queue.find(job.key), troubles(database)) == (job, []), "it waits again, and its attempt does not count"
    assert not (tmp_path / "results").exists()
    runner.run(job.key)
    found = queue.find(job.key)
    assert found is not None
    assert found.state is JobState.SUPERSEDED


@pytest.mark.parametrize("when", ["before", "while it is fetched", "before it is retried"])
def test_a_job_whose_images_were_partly_deleted_in_orthanc_is_replaced(
    when: str, queue: JobQueue, make_runner: Callable[[FailingSource], JobRunner], tmp_path: Path
) -> None:
    source = FailingSource(tmp_path)
    runner = make_runner(source)
    study = new_study_uid()
    job = new_job(study, UIDS, "model", urgent=True, source=JobSource.ORTHANC)
    queue.add(job)
    if when == "while it is fetched":
        real, source.failing["workspace"] = source.inputs, NotInArchive("It is gone.")

        def complete_once(job: Job) -> StudyInputs:
            found, source.uids, source.inputs = real(job), UIDS[:1], real  # type: ignore[method-assign]
            return found

        source.inputs = complete_once  # type: ignore[method-assign]
    else:
        source.uids = UIDS[:1]
    if when == "before it is retried":
        assert queue.apply_request(job.key, Cancelled()) != Ignore()
        runner.run(job.key)
        assert queue.apply_request(job.key, Retried()) == Restart()
    runner.run(job.key)
    before = queue.find(job.key)
    assert before is not None
    assert before.state == JobState.SUPERSEDED
    successor = queue.find(new_job(study, UIDS[:1], "model").key)
    assert successor is not None
    found = (successor.state, successor.urgent, successor.source, successor.image_count)
    assert found == (JobState.QUEUED, True, JobSource.ORTHANC, 1)
    source.failing.clear()
    runner.run(successor.key)
    runner.run(job.key)
    done = queue.find(successor.key)
    assert done is not None
    assert done.state == JobState.SEGMENTED


def test_a_study_that_was_deleted_in_orthanc_is_not_eligible(
    queue: JobQueue, database: Database, make_runner: Callable[[FailingSource], JobRunner], tmp_path: Path
) -> None:
    source, study = FailingSource(tmp_path), new_study_uid()
    runner = make_runner(source)
    job = new_job(study, UIDS, "model", source=JobSource.ORTHANC)
    queue.add(job)
    source.uids = ()
    runner.run(job.key)
    with database.pool.connection() as connection:
        line = show_job(connection, study).job
    assert (line.state, line.key != job.key) == ("not_eligible", True)
    assert line.reason is not None
    assert "deleted in Orthanc" in line.reason
    source.uids = UIDS  # it is sent again
    assert queue.add(job)
    runner.run(job.key)
    with database.pool.connection() as connection:
        assert show_job(connection, study).job.state == "segmented"
    more = new_job(study, (*UIDS, "1.2.3"), "model", source=JobSource.ORTHANC)
    queue.add(more)
    source.uids = ()  # the study has a result already, so no new job is needed
    runner.run(more.key)
    with database.pool.connection() as connection:
        assert show_job(connection, study).job.key == job.key


def test_changed_images_of_the_own_archive_are_left_to_the_reconciler(
    queue: JobQueue, make_runner: Callable[[FailingSource], JobRunner], tmp_path: Path
) -> None:
    source, study = FailingSource(tmp_path), new_study_uid()
    job = new_job(study, UIDS, "model")
    queue.add(job)
    source.uids = (*UIDS, "1.2.3")
    make_runner(source).run(job.key)
    assert queue.find(new_job(study, source.uids, "model").key) is None


@pytest.fixture
def lost(queue: JobQueue, database: Database, tmp_path: Path) -> Job:
    """A job that waits to run again because its result was lost, with a delivery that waits for it."""
    job = new_job(new_study_uid(), UIDS, "model")
    path = tmp_path / "gone" / "1.dcm"
    finish_job(queue, job, Finished("segmented", None), path.parent)
    query(
        database,
        "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state) "
        "VALUES ('1.9', 'pacs', %s, %s, 'queued')",
        *(job.key, str(path)),
    )
    assert queue.put_back(job.key, path, "it is missing") is None
    return job


def test_a_lost_result_whose_images_are_gone_too_is_given_up_with_a_sentence(
    lost: Job, queue: JobQueue, database: Database, make_runner: Callable[[FailingSource], JobRunner], tmp_path: Path
) -> None:
    source = FailingSource(tmp_path)
    source.uids = ()
    make_runner(source).run(lost.key)
    sentence = "Its result was lost, and its images are not in the archive any more; send the study again."
    assert query(database, "SELECT state, reason FROM glionode_jobs") == [("failed", sentence)]
    ((state, error),) = query(database, "SELECT state, last_error FROM glionode_outbox")
    assert state == "dead"
    assert str(error).endswith(sentence)


@pytest.mark.parametrize("finished", [None, "unchanged", "segmented"])
def test_a_study_with_other_images_by_now_gets_a_result_of_these(
    finished: str | None,
    lost: Job,
    queue: JobQueue,
    database: Database,
    make_runner: Callable[[FailingSource], JobRunner],
    tmp_path: Path,
) -> None:
    source = FailingSource(tmp_path)
    source.uids = (*UIDS, "1.2.3")
    later = new_job(lost.study_instance_uid, source.uids, "model")
    if finished is not None:
        query(database, "UPDATE glionode_jobs SET state = 'running'")  # so that the later job does not supersede it
        finish_job(queue, later, Finished(finished, None), tmp_path / "later")
        query(database, "UPDATE glionode_jobs SET state = 'queued' WHERE key = %s", lost.key)
    make_runner(source).run(lost.key)
    found = queue.find(lost.key)
    assert found is not None
    assert (found.state, found.result_lost) == (JobState.SUPERSEDED, False)
    assert query(database, "SELECT state FROM glionode_outbox") == [("withdrawn",)]
    newest = queue.standing(later)
    assert newest.state == ("segmented" if finished == "segmented" else "queued"), "one without a result runs"
    assert (newest.key == later.key) == (finished != "unchanged"), "what ran already runs as a job of its own"


@pytest.mark.parametrize("step", ["inputs", "workspace", "store_results"])
@pytest.mark.parametrize("failure", [ArchiveUnavailable("The archive is away."), NotInArchive("It is gone.")])
def test_a_postponed_job_runs_later_without_a_counted_attempt(
    step: str,
    failure: Exception,
    queue: JobQueue,
    database: Database,
    make_runner: Callable[[FailingSource], JobRunner],
    progress_pipe: tuple[Connection, Connection],
    tmp_path: Path,
) -> None:
    source = FailingSource(tmp_path)
    runner, steps = make_runner(source), list[str]()
    job = new_job(new_study_uid(), UIDS, "model")
    queue.add(job)
    source.failing[step] = failure
    for _ in range(4):
        runner.run(job.key)
        waiting = queue.find(job.key)
        assert waiting is not None
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0), "no attempt is counted"
    assert troubles(database) == [("worker on a host", str(failure))]
    source.failing.clear()
    runner.run(job.key)
    done = queue.find(job.key)
    assert done is not None
    assert (done.state, done.attempts) == (JobState.SEGMENTED, 1)
    assert troubles(database) == []
    reader = ProgressReader(progress_pipe[0], lambda name, seconds: steps.append(name) if seconds >= 0 else None)
    assert reader.latest() is None, "no job runs any more"
    assert steps[-4:] == ["fetch", "begin", "segment", "keep"]
