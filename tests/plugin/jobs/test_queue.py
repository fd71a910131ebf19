"""The queue on a real PostgreSQL, one for all tests here; each test has studies of its own."""

import asyncio
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from procrastinate import PsycopgConnector
from procrastinate.manager import JobManager
from psycopg import conninfo

from dicom_seg.predecessor import Predecessor
from plugin.archive.report_reader import ReadReport, WrittenFile
from plugin.database.pool import SCHEMA_VERSION, Database, connected, set_up
from plugin.errors import DatabaseUnavailable
from plugin.jobs.job import Finished, Job, new_job
from plugin.jobs.prior_results import remember
from plugin.jobs.queue import QUEUE, SWEEP_LOCK, AlsoWrite, JobQueue
from tests.support.node import new_study_uid


def job_of(study: str, *instances: str, model: str = "m") -> Job:
    return new_job(study, instances, model)


def states(database: Database) -> list[str]:
    with database.pool.connection() as connection:
        rows = connection.execute("SELECT state FROM glionode_jobs ORDER BY created_at, key").fetchall()
    return [state for (state,) in rows]


def nothing(_: psycopg.Connection[Any]) -> None:
    return None


def fetch(database: Database) -> tuple[str, int] | None:
    """What a worker gets that is then killed: the key of its job, and the worker's number."""

    async def ask() -> tuple[str, int] | None:
        connector = PsycopgConnector(conninfo=database.url, min_size=1, max_size=1)
        await connector.open_async()
        try:
            manager = JobManager(connector)
            worker = await manager.register_worker()
            job = await manager.fetch_job(queues=[QUEUE], worker_id=worker)
            return (str(job.task_kwargs["key"]), worker) if job else None
        finally:
            await connector.close_async()

    return asyncio.run(ask())


def test_a_study_is_queued_once_whatever_the_model(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    assert queue.add(job_of(study, "1", "2"))
    assert not queue.add(job_of(study, "2", "1"))
    assert not queue.add(job_of(study, "1", "2", model="another"))
    assert states(database) == ["queued"]
    found = fetch(database)
    assert found is not None
    assert found[0] == job_of(study, "1", "2").key
    assert fetch(database) is None


def test_more_instances_supersede_a_waiting_job(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    old, new = job_of(study, "1"), job_of(study, "1", "2")
    queue.add(old)
    queue.add(new)
    assert states(database) == ["superseded", "queued"]
    assert queue.take(old.key) is None
    assert queue.take(new.key) is not None


def done(queue: JobQueue, job: Job, status: str, also: AlsoWrite = nothing) -> None:
    queue.add(job)
    taken = queue.take(job.key)
    assert taken is not None
    queue.finish(taken, Finished(status, None), None, also)


def superseded(database: Database, job: Job) -> str | None:
    with database.pool.connection() as connection:
        row = connection.execute("SELECT superseded_by FROM glionode_jobs WHERE key = %s", (job.key,)).fetchone()
    assert row is not None
    return row[0]


def test_a_result_is_superseded_by_a_result_alone(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second, third, fourth = (job_of(study, *"1234"[:count]) for count in (1, 2, 3, 4))
    done(queue, first, "segmented")
    for job, status in ((second, "not_eligible"), (third, "unchanged")):
        done(queue, job, status)
        assert superseded(database, first) is None
    assert superseded(database, second) == third.key
    done(queue, fourth, "segmented")
    assert states(database) == ["segmented", "not_eligible", "unchanged", "segmented"]
    assert [superseded(database, job) for job in (first, third, fourth)] == [fourth.key, fourth.key, None]


def test_a_job_is_told_what_came_before_it_and_the_same_at_each_try(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    first, second, other_model = job_of(study, "1"), job_of(study, "1", "2"), job_of(study, "1", "2", "3", model="n")

    def report(images: str, number: int) -> AlsoWrite:
        written = WrittenFile("sr.dcm", "1.2.840.10008.5.1.4.1.1.88.34", f"1.{number}", f"2.{number}")
        seg = WrittenFile("seg.dcm", "1.2.840.10008.5.1.4.1.1.66.4", f"3.{number}", f"4.{number}")
        read = ReadReport(written=(written, seg), images_sha256=images)
        return lambda connection: remember(connection, keys[number], read)

    keys = {1: first.key, 2: second.key}
    done(queue, first, "segmented", report("a", 1))
    queue.add(second)
    past = queue.past(second)
    assert dict(past.standing) == {"a": first.key}
    assert past.predecessors == (Predecessor("sr.dcm", "2.1", "1.2.840.10008.5.1.4.1.1.88.34", "1.1"),)
    assert past.purged_on is None
    taken = queue.take(second.key)
    assert taken is not None
    assert queue.past(second) == past
    queue.finish(taken, Finished("segmented", None), None, report("b", 2))
    assert queue.past(second) == past
    queue.add(other_model)
    told = queue.past(other_model)
    assert told.standing == {}, "another model's results stand for nothing"
    assert [each.sop_instance_uid for each in told.predecessors] == ["1.2"]
    queue.outdate(other_model)
    assert queue.add(second, again=True)
    assert queue.past(second).standing == {}, "once more means computed once more"


def test_an_urgent_job_goes_first_and_lifts_the_one_that_waits(database: Database, queue: JobQueue) -> None:
    usual, urgent, lifted = (job_of(new_study_uid(), "1") for _ in range(3))
    for job in (usual, lifted, replace(urgent, urgent=True)):
        assert queue.add(job)
    assert not queue.add(replace(lifted, urgent=True)), "it is known"
    assert not queue.add(replace(lifted, urgent=True)), "nor is it lifted twice"
    order = [fetch(database) for _ in range(4)]
    assert [each and each[0] for each in order] == [urgent.key, lifted.key, usual.key, None]


def test_a_job_stays_urgent_when_its_worker_is_lost(database: Database, queue: JobQueue) -> None:
    running, waiting = (job_of(new_study_uid(), "1") for _ in range(2))
    queue.add(running)
    queue.add(waiting)
    assert fetch(database) is not None
    assert queue.take(running.key) is not None
    assert not queue.add(replace(running, urgent=True))
    queue.take_over(0)
    found = fetch(database)
    assert found is not None
    assert found[0] == running.key


def test_what_is_finished_is_not_run_again(queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    taken = queue.take(job.key)
    assert taken is not None
    queue.finish(taken, Finished("not_eligible", "no ADC"), None, nothing)
    assert queue.take(job.key) is None
    assert queue.take("unknown") is None


def test_outcome_and_outbox_are_one_transaction(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    taken = queue.take(job.key)
    assert taken is not None

    def fail(_: psycopg.Connection[Any]) -> None:
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        queue.finish(taken, Finished("segmented", None), "/results", fail)
    assert states(database) == ["running"]


def test_the_job_of_a_dead_worker_is_taken_over_after_its_heartbeat(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    found = fetch(database)
    assert found is not None
    queue.take(job.key)
    assert queue.take_over(20) == 0
    assert fetch(database) is None
    with database.pool.connection() as connection:
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '21 s'")
    assert queue.take_over(20) == 1
    assert states(database) == ["queued"]
    assert fetch(database) is not None


def test_the_job_of_a_worker_without_a_row_is_taken_over(database: Database, queue: JobQueue) -> None:
    queue.add(job_of(new_study_uid(), "1"))
    assert fetch(database) is not None
    with database.pool.connection() as connection:
        connection.execute("DELETE FROM procrastinate_workers")
    assert queue.take_over(20) == 1
    assert fetch(database) is not None


def test_a_job_that_the_queue_lost_is_queued_again(database: Database, queue: JobQueue) -> None:
    queue.add(job_of(new_study_uid(), "1"))
    with database.pool.connection() as connection:
        connection.execute("DELETE FROM procrastinate_jobs")
    assert queue.take_over(20) == 1
    assert queue.take_over(20) == 0
    assert fetch(database) is not None


def test_a_worker_that_died_after_writing_down_the_outcome_costs_nothing(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    fetch(database)
    taken = queue.take(job.key)
    assert taken is not None
    queue.finish(taken, Finished("segmented", None), "/results", nothing)
    assert queue.take_over(0) == 0
    assert states(database) == ["segmented"]
    assert fetch(database) is None


def test_after_three_lost_workers_a_job_is_parked(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    for _ in range(3):
        assert fetch(database) is not None
        assert queue.take(job.key) is not None
        queue.take_over(0)
    assert states(database) == ["failed"]
    assert fetch(database) is None


def test_an_orderly_stop_does_not_count(database: Database, queue: JobQueue) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    for _ in range(5):
        assert fetch(database) is not None
        assert queue.take(job.key) is not None
        assert queue.release() == 1
    assert states(database) == ["queued"]


def test_two_jobs_of_one_study_do_not_run_at_a_time(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    queue.add(job_of(study, "1"))
    assert fetch(database) is not None
    assert queue.take(job_of(study, "1").key) is not None
    queue.add(job_of(study, "1", "2"))
    assert fetch(database) is None
    assert states(database) == ["running", "queued"]


def test_the_tables_are_set_up_once_and_newer_ones_are_left_alone(database: Database) -> None:
    set_up(database.pool)
    with database.pool.connection() as connection:
        row = connection.execute("SELECT max(version) FROM glionode_schema").fetchone()
        connection.execute("INSERT INTO glionode_schema VALUES (%s)", (SCHEMA_VERSION + 1,))
    try:
        assert row == (SCHEMA_VERSION,)
        with pytest.raises(DatabaseUnavailable, match="newer glionode"):
            set_up(database.pool)
    finally:
        with database.pool.connection() as connection:
            connection.execute("DELETE FROM glionode_schema WHERE version > %s", (SCHEMA_VERSION,))


def test_the_tables_of_the_first_version_are_brought_up_to_date(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS older")
        connection.execute("CREATE DATABASE older")
    with connected(conninfo.make_conninfo(database.url, dbname="older")) as pool:
        with monkeypatch.context() as first:
            first.setattr("plugin.database.pool.SCHEMA_VERSION", 1)
            set_up(pool)
        with pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_jobs (key, study_instance_uid, instances_sha256, model_sha256, state) "
                "VALUES ('k', '1.2', 'i', 'm', 'queued')"
            )
        set_up(pool)
        assert JobQueue(Database(database.url, pool, True)).peek("k") == Job("k", "1.2", "i", "m")
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE older")


def test_a_database_that_is_not_there_is_said(data_dir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.database.pool._CONNECT_S", 0.2)
    with pytest.raises(DatabaseUnavailable, match="does not answer"), connected(f"postgresql:///x?host={data_dir}"):
        pass


def test_one_process_at_a_time_takes_over(queue: JobQueue, database: Database) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    assert fetch(database) is not None  # by a worker that dies
    queue.take(job.key)
    with psycopg.connect(database.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (SWEEP_LOCK,))
        assert (queue.take_over(0.0), states(database)) == (0, ["running"])
    assert (queue.take_over(0.0), states(database)) == (1, ["queued"])


def test_a_job_that_was_given_back_is_queued_when_its_worker_is_gone(queue: JobQueue, database: Database) -> None:
    job = job_of(new_study_uid(), "1")
    queue.add(job)
    assert fetch(database) is not None
    queue.take(job.key)
    queue.give_back(job.key, 2)
    assert states(database) == ["running"], "another attempt is another worker's"
    queue.give_back(job.key, 1)
    assert (states(database), fetch(database)) == (["queued"], None), "its worker still has it in hand"
    queue.take_over(0.0)
    found = queue.peek(job.key)
    assert found is not None
    assert found.attempts == 0
    taken = fetch(database)
    assert taken is not None
    assert taken[0] == job.key
