"""The job queue on a real PostgreSQL. All tests share one server; each has studies of its own."""

import asyncio
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from procrastinate import PsycopgConnector
from procrastinate.manager import JobManager

from dicom_seg.predecessor import Predecessor
from plugin.archive.report_reader import ReadReport, WrittenFile
from plugin.database.pool import Connection, Database
from plugin.jobs import outbox
from plugin.jobs.job import Cancelled, Finished, Job, Restart, Retried, new_job
from plugin.jobs.prior_results import record_for_later_jobs
from plugin.jobs.procrastinate_queue import QUEUE
from plugin.jobs.queue import SWEEP_LOCK, AlsoWrite, JobQueue
from tests.support.node import finish_job, new_study_uid, query


def job_of(study: str, *instances: str, model: str = "m") -> Job:
    return new_job(study, instances, model)


def states(database: Database) -> list[str]:
    return [state for (state,) in query(database, "SELECT state FROM glionode_jobs ORDER BY created_at, key")]


def fetch(database: Database) -> str | None:
    """Fetch a job as a worker that is then killed. Return the job's key."""

    async def ask() -> str | None:
        connector = PsycopgConnector(conninfo=database.url, min_size=1, max_size=1)
        await connector.open_async()
        try:
            manager = JobManager(connector)
            worker = await manager.register_worker()
            job = await manager.fetch_job(queues=[QUEUE], worker_id=worker)
            return str(job.task_kwargs["key"]) if job else None
        finally:
            await connector.close_async()

    return asyncio.run(ask())


def test_a_study_is_queued_once_whatever_the_model(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    assert queue.add(job_of(study, "1", "2"))
    assert not queue.add(job_of(study, "2", "1"))
    assert not queue.add(job_of(study, "1", "2", model="another"))
    assert states(database) == ["queued"]
    assert fetch(database) == job_of(study, "1", "2").key
    assert fetch(database) is None


def test_replaced_images_end_an_earlier_result_and_withdraw_what_waits(database: Database, queue: JobQueue) -> None:
    study, other = new_study_uid(), new_study_uid()
    jobs = {name: new_job(name, ["1"], "m") for name in (study, other)}

    def put_in(name: str) -> AlsoWrite:
        def put(connection: Connection) -> None:
            for number, state in enumerate(("queued", "failed", "dead", "sent", "committed", "held")):
                connection.execute(
                    "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state) "
                    "VALUES (%s, 'pacs', %s, '', %s)",
                    (f"{name}.{number}", jobs[name].key, state),
                )
            record_for_later_jobs(connection, jobs[name].key, ReadReport(images_sha256="digest"))

        return put

    for name, job in jobs.items():
        finish_job(queue, job, Finished("segmented", None), also=put_in(name))
    successor = new_job(study, ["1"], "m", replacements=1)
    assert queue.add(successor)
    assert not queue.add(successor)
    found = dict(query(database, "SELECT sop_instance_uid, state FROM glionode_outbox"))
    assert [found[f"{study}.{n}"] for n in range(6)] == [*["withdrawn"] * 3, "sent", "committed", "withdrawn"]
    assert [found[f"{other}.{n}"] for n in range(6)] == ["queued", "failed", "dead", "sent", "committed", "held"]
    superseded = dict(query(database, "SELECT key, superseded_by FROM glionode_jobs WHERE superseded_by IS NOT NULL"))
    assert superseded == {jobs[study].key: successor.key}
    assert queue.prior_results(successor).current_results == {}, "no result counts as the current one"
    ((detail,),) = query(database, "SELECT detail FROM glionode_audit WHERE what = 'superseded'")
    assert detail.startswith("earlier results are superseded, and 4 deliveries withdrawn")
    with database.pool.connection() as connection:  # a sender was at work on one, and failed
        outbox.record_failed(connection, "pacs", f"{study}.0", "no answer", 5.0)
        assert outbox.due(connection, "pacs", 10) != ()
        assert f"{study}.0" not in {each.sop_instance_uid for each in outbox.due(connection, "pacs", 10)}
        outbox.record_sent(connection, "pacs", f"{study}.1", None)  # another one had it through
    assert dict(query(database, "SELECT sop_instance_uid, state FROM glionode_outbox"))[f"{study}.1"] == "sent"


def test_late_images_of_a_corrected_study_leave_its_result_until_there_is_another(
    database: Database, queue: JobQueue
) -> None:
    study = new_study_uid()
    finish_job(queue, new_job(study, ["1"], "m", replacements=1), Finished("segmented", None))
    queue.add(new_job(study, ["1", "2"], "m", replacements=1))
    assert query(database, "SELECT superseded_by FROM glionode_jobs WHERE state = 'segmented'") == [(None,)]


def test_a_study_that_was_purged_and_comes_again_runs_again(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    job = job_of(study, "1")
    finish_job(queue, job, Finished("segmented", None))
    query(database, "UPDATE glionode_jobs SET purged_at = now()")
    added = queue.add(job)
    assert added is not None, "its patient may be another one by now"
    assert added.key != job.key, "its objects have UIDs of their own"
    purged = "SELECT key, state, purged_at IS NOT NULL FROM glionode_jobs ORDER BY created_at"
    assert query(database, purged) == [(job.key, "segmented", True), (added.key, "queued", False)]
    assert not queue.add(job), "the new one waits"


def test_more_instances_supersede_a_waiting_job(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    old, new = job_of(study, "1"), job_of(study, "1", "2")
    queue.add(old)
    queue.add(new)
    assert states(database) == ["superseded", "queued"]
    assert queue.start(old.key) is None
    assert queue.start(new.key) is not None


def superseded(database: Database, job: Job) -> str | None:
    ((key,),) = query(database, "SELECT superseded_by FROM glionode_jobs WHERE key = %s", job.key)
    return key


def test_a_result_is_superseded_by_a_result_alone(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second, third, fourth = (job_of(study, *"1234"[:count]) for count in (1, 2, 3, 4))
    finish_job(queue, first, Finished("segmented", None))
    for job, status in ((second, "not_eligible"), (third, "unchanged")):
        finish_job(queue, job, Finished(status, None))
        assert superseded(database, first) is None
    assert superseded(database, second) == third.key
    finish_job(queue, fourth, Finished("segmented", None))
    assert states(database) == ["segmented", "not_eligible", "unchanged", "segmented"]
    assert [superseded(database, job) for job in (first, third, fourth)] == [fourth.key, fourth.key, None]


def test_a_job_gets_the_same_prior_results_at_each_attempt(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second, other_model = job_of(study, "1"), job_of(study, "1", "2"), job_of(study, "1", "2", "3", model="n")

    def report(images: str, number: int) -> AlsoWrite:
        written = WrittenFile("sr.dcm", "1.2.840.10008.5.1.4.1.1.88.34", f"1.{number}", f"2.{number}")
        seg = WrittenFile("seg.dcm", "1.2.840.10008.5.1.4.1.1.66.4", f"3.{number}", f"4.{number}")
        read = ReadReport(written=(written, seg), images_sha256=images)
        return lambda connection: record_for_later_jobs(connection, keys[number], read)

    keys = {1: first.key, 2: second.key}
    finish_job(queue, first, Finished("segmented", None), also=report("a", 1))
    queue.add(second)
    assert queue.start(second.key) is not None
    prior = queue.prior_results(second)
    assert dict(prior.current_results) == {"a": first.key}
    assert prior.predecessors == (Predecessor("sr.dcm", "2.1", "1.2.840.10008.5.1.4.1.1.88.34", "1.1"),)
    assert prior.purged_on is None
    queue.requeue_stalled(0)
    taken = queue.start(second.key)
    assert taken is not None
    assert queue.prior_results(second) == prior
    queue.finish(taken, Finished("segmented", None), None, report("b", 2))
    assert queue.prior_results(second) == prior
    queue.add(other_model)
    found = queue.prior_results(other_model)
    assert found.current_results == {}, "results of another model are not current"
    assert [each.sop_instance_uid for each in found.predecessors] == ["1.2"]
    queue.mark_outdated(other_model)
    again = queue.add(second, again=True)
    assert again is not None
    assert again.key != second.key
    assert queue.prior_results(again).current_results == {}, "a forced job is computed again"
    assert [each.sop_instance_uid for each in queue.prior_results(again).predecessors] == ["1.2"]


def test_a_result_that_was_purged_is_not_current(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second = job_of(study, "1"), job_of(study, "1", "2")
    read = ReadReport(images_sha256="a")
    finish_job(queue, first, Finished("segmented", None), also=lambda one: record_for_later_jobs(one, first.key, read))
    finish_job(queue, second, Finished("unchanged", None))
    query(database, "UPDATE glionode_jobs SET purged_at = now(), results_path = NULL")
    again = queue.add(second)
    assert again is not None
    assert queue.prior_results(again).current_results == {}, "it is computed, since no result of the study is here"


def test_the_start_of_an_analysis_is_that_of_the_first_attempt(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    query(database, "UPDATE glionode_jobs SET created_at = now() - interval '1 day'")
    assert queue.start(job.key) is not None
    started = queue.prior_results(job).started
    assert query(database, "SELECT started_at FROM glionode_jobs") == [(started,)], "not when it was queued"
    queue.requeue_stalled(0)
    assert queue.start(job.key) is not None, "after a crash"
    assert queue.prior_results(job).started == started
    queue.postpone(job.key, 2)
    taken = queue.start(job.key)
    assert taken is not None, "after a power cut or a full disk"
    queue.finish(taken, Finished("failed", "The network is broken."), None, lambda _: None)
    assert isinstance(queue.apply_request(job.key, Retried()), Restart)
    assert queue.start(job.key) is not None, "after a user's retry"
    assert queue.prior_results(job).started == started


def test_each_repetition_of_an_analysis_has_a_key_and_a_start_of_its_own(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    made = [job]
    finish_job(queue, job, Finished("segmented", None))
    for _ in range(2):
        again = queue.add(made[-1], again=True)
        assert again is not None
        assert queue.add(again, again=True) is None, "one of them waits"
        assert queue.standing(job) == again
        taken = queue.start(again.key)
        assert taken is not None
        queue.finish(taken, Finished("segmented", None), None, lambda _: None)
        made.append(again)
    assert len({each.key for each in made}) == len({queue.prior_results(each).started for each in made}) == 3
    assert {each.instances_sha256 for each in made} == {job.instances_sha256}
    assert superseded(database, made[0]) == made[1].key
    assert superseded(database, made[1]) == made[2].key


def test_a_repetition_that_never_began_keeps_its_key(queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    queue.apply_request(job.key, Cancelled())
    again = queue.add(job, again=True)
    assert again is not None
    assert again.key == job.key
    assert queue.start(job.key) is not None


def test_urgent_jobs_run_first_also_those_that_become_urgent_while_queued(database: Database, queue: JobQueue) -> None:
    usual, urgent, late = (job_of(new_study_uid(), "1") for _ in range(3))
    for job in (usual, late, replace(urgent, urgent=True)):
        assert queue.add(job)
    assert not queue.add(replace(late, urgent=True)), "the study has a job"
    assert not queue.add(replace(late, urgent=True)), "asking twice changes nothing"
    assert [fetch(database) for _ in range(4)] == [urgent.key, late.key, usual.key, None]


def test_a_job_stays_urgent_when_its_worker_is_lost(database: Database, queue: JobQueue) -> None:
    running, waiting = (job_of(new_study_uid(), "1") for _ in range(2))
    queue.add(running)
    queue.add(waiting)
    assert fetch(database) is not None
    assert queue.start(running.key) is not None
    assert not queue.add(replace(running, urgent=True))
    queue.requeue_stalled(0)
    assert fetch(database) == running.key


def test_a_finished_job_is_not_run_again(queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    finish_job(queue, job, Finished("not_eligible", "no ADC"))
    assert queue.start(job.key) is None
    assert queue.start("unknown") is None


def test_outcome_and_outbox_are_one_transaction(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    taken = queue.start(job.key)
    assert taken is not None

    def fail(_: psycopg.Connection[Any]) -> None:
        raise RuntimeError("power failure")

    with pytest.raises(RuntimeError):
        queue.finish(taken, Finished("segmented", None), "/results", fail)
    assert states(database) == ["running"]


def test_the_job_of_a_dead_worker_is_requeued_after_missed_heartbeats(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    assert fetch(database) == job.key
    queue.start(job.key)
    assert queue.requeue_stalled(20) == 0
    assert fetch(database) is None
    query(database, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '21 s'")
    assert queue.requeue_stalled(20) == 1
    assert states(database) == ["queued"]
    assert fetch(database) is not None


def test_the_job_of_a_worker_without_a_row_is_requeued(database: Database, queue: JobQueue) -> None:
    queue.add(job_of(new_study_uid(), "1"))
    assert fetch(database) is not None
    query(database, "DELETE FROM procrastinate_workers")
    assert queue.requeue_stalled(20) == 1
    assert fetch(database) is not None


def test_a_job_without_an_entry_is_queued_again(database: Database, queue: JobQueue) -> None:
    queue.add(job_of(new_study_uid(), "1"))
    query(database, "DELETE FROM procrastinate_jobs")
    assert queue.requeue_stalled(20) == 1
    assert queue.requeue_stalled(20) == 0
    assert fetch(database) is not None


def test_a_worker_that_died_after_recording_the_outcome_changes_nothing(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    fetch(database)
    taken = queue.start(job.key)
    assert taken is not None
    queue.finish(taken, Finished("segmented", None), "/results", lambda _: None)
    assert queue.requeue_stalled(0) == 0
    assert states(database) == ["segmented"]
    assert fetch(database) is None


def test_a_job_fails_after_three_lost_workers(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    for _ in range(3):
        assert fetch(database) is not None
        assert queue.start(job.key) is not None
        queue.requeue_stalled(0)
    assert states(database) == ["failed"]
    assert fetch(database) is None


def test_an_orderly_stop_is_not_counted_as_an_attempt(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    for _ in range(5):
        assert fetch(database) is not None
        assert queue.start(job.key) is not None
        assert queue.postpone_running() == 1
    assert states(database) == ["queued"]


def test_two_jobs_of_one_study_never_run_at_the_same_time(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    queue.add(job_of(study, "1"))
    assert fetch(database) is not None
    assert queue.start(job_of(study, "1").key) is not None
    queue.add(job_of(study, "1", "2"))
    assert fetch(database) is None
    assert states(database) == ["running", "queued"]


def test_one_process_at_a_time_requeues_stalled_jobs(queue: JobQueue, database: Database) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    assert fetch(database) is not None  # by a worker that dies
    queue.start(job.key)
    with psycopg.connect(database.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        assert (queue.requeue_stalled(0.0), states(database)) == (0, ["running"])
    assert (queue.requeue_stalled(0.0), states(database)) == (1, ["queued"])


def test_a_postponed_job_is_fetched_again_when_its_worker_is_gone(queue: JobQueue, database: Database) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    assert fetch(database) is not None
    queue.start(job.key)
    queue.postpone(job.key, 2)
    assert states(database) == ["running"], "another attempt belongs to another worker"
    queue.postpone(job.key, 1)
    assert (states(database), fetch(database)) == (["queued"], None), "its worker still holds the entry"
    queue.requeue_stalled(0.0)
    found = queue.find(job.key)
    assert found is not None
    assert found.attempts == 0
    assert fetch(database) == job.key
