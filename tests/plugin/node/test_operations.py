"""Retry, cancel and force jobs, with a database alone and with a whole running node."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.job import Finished, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queue import JobQueue
from plugin.node.operations import OperationRefused, cancel_job, retry_all, retry_job
from plugin.settings.destinations import DestinationSettings
from tests.support.node import (
    NodeInThread,
    config_of,
    finish_job,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    wait_until,
)

MakeNode = Callable[..., NodeInThread]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


def finished(queue: JobQueue, status: str) -> str:
    job = new_job(new_study_uid(), ["1"], "m")
    finish_job(queue, job, Finished(status, "why"))
    return job.key


def put(database: Database, key: str, uid: str, error: str, again_in_s: float | None) -> None:
    """Add an object of a job whose delivery to the PACS failed."""
    with database.pool.connection() as connection:
        outbox.put(connection, key, [OutgoingObject(uid, Path("x"))], (PACS,), IntendedUse.RESEARCH)
        connection.execute("UPDATE glionode_outbox SET created_at = now() - interval '4 days'")
        outbox.record_failed(connection, "pacs", uid, error, again_in_s)


def test_a_failed_job_is_retried_from_the_start_and_a_segmented_one_is_not(database: Database, queue: JobQueue) -> None:
    bad, good = finished(queue, "failed"), finished(queue, "segmented")
    assert retry_job(database, bad).jobs == (bad,)
    job = queue.start(bad)
    assert job is not None
    assert job.attempts == 0
    with pytest.raises(OperationRefused, match="is segmented and none of its deliveries"):
        retry_job(database, good)


def test_retried_deliveries_start_their_time_limit_again(database: Database, queue: JobQueue) -> None:
    key = finished(queue, "segmented")
    put(database, key, "1.1", "refused", None)
    put(database, key, "1.2", "away", 3600)
    with database.pool.connection() as connection:
        assert outbox.due(connection, "pacs", 9) == ()
    assert retry_all(database, failed=False, dead=True).deliveries == 1
    assert retry_job(database, key).deliveries == 1
    with database.pool.connection() as connection:
        due = outbox.due(connection, "pacs", 9)
    ((hour_ago,),) = query(database, "SELECT now() - interval '1 hour'")
    assert [(entry.sop_instance_uid, entry.attempts, entry.created_at > hour_ago) for entry in due] == [
        ("1.1", 0, True),
        ("1.2", 0, True),
    ]


def test_all_that_failed_is_retried_and_nothing_else(database: Database, queue: JobQueue) -> None:
    bad, worse, good = finished(queue, "failed"), finished(queue, "failed"), finished(queue, "segmented")
    put(database, good, "1.1", "refused", None)
    done = retry_all(database, failed=True, dead=False)
    assert (sorted(done.jobs), done.deliveries) == (sorted([bad, worse]), 0)


def test_a_queued_job_is_cancelled_and_one_in_a_final_state_is_not(database: Database, queue: JobQueue) -> None:
    job = new_job(new_study_uid(), ["1"], "m")
    queue.add(job)
    assert cancel_job(database, job.key) == job.key
    assert queue.start(job.key) is None
    assert not queue.add(job), "it is not queued again by itself"
    with pytest.raises(OperationRefused, match="is cancelled; only"):
        cancel_job(database, job.key)
    assert retry_job(database, job.key).jobs == (job.key,)
    assert queue.start(job.key) is not None


def test_a_running_job_is_cancelled_and_the_next_one_runs(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node().start("hold")
    config = config_of(node, data_dir)
    study, other = new_study_uid(), new_study_uid()
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(lambda: node.run_count() == 1, "the worker runs the job")
    send(node.port, *(make_instance(other) for _ in range(2)))
    assert run(config, "cancel", study)[0] == 0
    wait_until(lambda: node.run_count() == 2, "a new worker runs the next job")
    (node.controls / "hold").unlink()
    wait_until(lambda: node.jobs_are(cancelled=1, segmented=1), "one is cancelled, one segmented")
    assert run(config, "cancel", other)[0] == 1
    status, text = run(config, "retry", study, "--json")
    assert (status, len(json.loads(text)["jobs"])) == (0, 1)
    wait_until(lambda: node.jobs_are(segmented=2), "retried, it is segmented without a restart of the node")


def test_a_study_is_forced_before_it_is_complete_and_once_more(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node(study={"stable_after_s": 3600}).start()
    config = config_of(node, data_dir)
    study = new_study_uid()
    assert run(config, "force", study)[0] == 1, "it is not there yet"
    assert run(config, "force", "../x")[0] == 1
    send(node.port, *(make_instance(study) for _ in range(2)))
    assert run(config, "force", study)[0] == 0
    wait_until(lambda: node.jobs_are(segmented=1), "it is segmented")
    status, text = run(config, "force", study)
    assert (status, "--again" in text) == (1, True)
    assert run(config, "force", study, "--again")[0] == 0
    wait_until(lambda: node.run_count() == 2 and node.jobs_are(segmented=2), "it is segmented once more")


def test_wrong_usage_and_nothing_to_do_have_different_exit_statuses(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node().start()
    config = config_of(node, data_dir)
    assert run(config, "retry")[0] == 64
    assert run(config, "retry", "1.2", "--dead")[0] == 64
    assert run(config, "retry", "1.2")[0] == 64
    assert run(config, "cancel", "1.2")[0] == 64
    assert run(config, "retry", "--dead", "--failed")[0] == 1
