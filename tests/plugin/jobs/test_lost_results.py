"""A job whose result is lost on disk runs again as the same job, and its deliveries wait for it."""

import hashlib
import logging
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.database.audit_log import AuditEvent, read_entries
from plugin.database.pool import Connection, Database
from plugin.jobs import outbox
from plugin.jobs.job import MAX_LOSSES, Cancelled, Finished, Job, JobState, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.settings.destinations import DestinationSettings
from tests.support.node import new_study_uid, query

PACS = tuple(DestinationSettings(name=name, ae_title="P", host="127.0.0.1", port=104) for name in ("far", "pacs"))
UIDS = ("1.9.1", "1.9.2")
SEGMENTED = Finished("segmented", None)


def run_job(queue: JobQueue, job: Job, folder: Path, uids: tuple[str, ...] = UIDS) -> None:
    """Run a job that waits: its result goes to `folder`."""

    def also(connection: Connection) -> None:
        objects = [OutgoingObject(uid, folder / f"{uid}.dcm", hashlib.sha256(uid.encode()).hexdigest()) for uid in uids]
        outbox.put(connection, job.key, objects, PACS, IntendedUse.RESEARCH)

    started = queue.start(job.key)
    assert started is not None
    queue.finish(started, SEGMENTED, str(folder), also)


@pytest.fixture
def job(queue: JobQueue) -> Job:
    """A segmented job with two objects, one of which one destination has."""
    made = new_job(new_study_uid(), ["1.1"], "m")
    queue.add(made)
    run_job(queue, made, Path("/results/1/a"))
    return made


def deliver_one(database: Database) -> None:
    with database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", UIDS[0], None)


def lose(queue: JobQueue, job: Job, folder: str = "/results/1/a") -> str | None:
    return queue.put_back(job.key, Path(folder, f"{UIDS[1]}.dcm"), f"the file {folder}/{UIDS[1]}.dcm is missing")


def due(database: Database) -> list[tuple[str, str]]:
    """Return destination and path of what is due."""
    with database.pool.connection() as connection:
        return [(name, each.path) for name in ("far", "pacs") for each in outbox.due(connection, name, 9)]


def test_the_job_runs_again_and_what_waits_goes_out_then(
    queue: JobQueue, database: Database, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    deliver_one(database)
    before = queue.prior_results(job)
    with caplog.at_level(logging.WARNING, "plugin.jobs.queue"):
        assert lose(queue, job) is None
        assert lose(queue, job) is None, "the second destination finds out, too"
    assert [record.message for record in caplog.records] == [
        f"job {job.key}: the file /results/1/a/1.9.2.dcm is missing; it runs again (1 of 3 times), and its deliveries "
        "wait for it"
    ]
    with database.pool.connection() as connection:
        shown = show_job(connection, job.key)
        assert read_entries(connection, job.key, job.study_instance_uid)[-1].what == AuditEvent.LOST
    assert (shown.job.state, shown.results_path) == ("queued", None)
    assert (shown.job.reason or "").startswith("Its result was lost and is made again: the file /results/1/a/1.9.2.dcm")
    errors = {each.last_error for output in shown.outputs for each in output.deliveries if each.state == "queued"}
    assert all("the job runs again, and this waits for its result" in str(error) for error in errors)
    assert due(database) == []
    assert queue.prior_results(job) == before, "so that its objects have the same UIDs and bytes"
    run_job(queue, job, Path("/results/1/b"))
    assert due(database) == [
        *(("far", f"/results/1/b/{uid}.dcm") for uid in UIDS),
        ("pacs", "/results/1/b/1.9.2.dcm"),
    ]
    found = queue.find(job.key)
    assert found is not None
    assert (found.state, found.result_lost) == (JobState.SEGMENTED, False)


def test_a_disk_that_loses_files_again_and_again_is_left_to_a_person(queue: JobQueue, job: Job) -> None:
    for number in range(MAX_LOSSES):
        folder = f"/results/1/{number}"
        assert lose(queue, job, f"/results/1/{number - 1}" if number else "/results/1/a") is None
        run_job(queue, job, Path(folder))
    why = lose(queue, job, folder)
    assert why is not None
    assert why.startswith("its result was lost 3 times before, so check the disk; then `glionode force STUDY --again`")


def test_a_loss_that_another_run_has_made_good_changes_nothing(queue: JobQueue, database: Database, job: Job) -> None:
    assert lose(queue, job) is None
    run_job(queue, job, Path("/results/1/b"))
    assert lose(queue, job) is None, "a deliverer comes with what it had read before"
    assert len(due(database)) == 4
    found = queue.find(job.key)
    assert found is not None
    assert found.state is JobState.SEGMENTED


def test_an_object_that_the_jobs_present_result_does_not_have_is_not_made_again(
    queue: JobQueue, database: Database, job: Job
) -> None:
    query(database, "UPDATE glionode_jobs SET results_path = '/results/1/new'")
    assert lose(queue, job) == "its job has another result by now, without it"


def test_a_purged_study_has_to_be_sent_again(queue: JobQueue, database: Database, job: Job) -> None:
    query(database, "UPDATE glionode_jobs SET purged_at = now(), results_path = NULL")
    assert lose(queue, job) == "its study was purged; send the study again"


def test_what_cannot_be_made_again_is_given_up_with_the_reason(queue: JobQueue, database: Database, job: Job) -> None:
    deliver_one(database)
    assert lose(queue, job) is None
    started = queue.start(job.key)
    assert started is not None
    queue.finish(started, Finished("failed", "The images are gone."), None, lambda _: None)
    rows = query(database, "SELECT state, last_error FROM glionode_outbox WHERE state <> 'sent'")
    why = "its file was lost and could not be made again, the job is failed: The images are gone."
    assert rows == [("dead", why)] * 3
    assert query(database, "SELECT count(*) FROM glionode_outbox WHERE state = 'sent'") == [(1,)]
    with database.pool.connection() as connection:
        shown = show_job(connection, job.key)
    assert "is kept" not in (shown.job.reason or ""), "the result of the earlier run is lost"


def test_what_a_cancelled_job_has_lost_is_given_up(queue: JobQueue, database: Database, job: Job) -> None:
    assert lose(queue, job) is None
    queue.apply_request(job.key, Cancelled())
    assert set(query(database, "SELECT state FROM glionode_outbox")) == {("dead",)}


def test_objects_that_the_job_does_not_make_any_more_are_withdrawn(
    queue: JobQueue, database: Database, job: Job
) -> None:
    assert lose(queue, job) is None
    run_job(queue, job, Path("/results/1/b"), ("1.9.1", "1.9.3"))
    assert sorted(query(database, "SELECT sop_instance_uid, state FROM glionode_outbox WHERE destination = 'far'")) == [
        *(("1.9.1", "queued"), ("1.9.2", "withdrawn"), ("1.9.3", "queued"))
    ]
