"""What a clock that was set back leaves in the database holds up nothing."""

from plugin.database.pool import Database
from plugin.jobs.future_times import bring_back
from plugin.jobs.job import Finished, new_job
from plugin.jobs.queue import JobQueue

PAUSE_S = 600.0


def test_deliveries_and_ages_wait_for_no_time_beyond_the_longest_pause(database: Database) -> None:
    job = new_job("1.2.3", ["1"], "m")
    JobQueue(database).add(job)
    with database.pool.connection() as connection:
        for uid, seconds in (("planned", PAUSE_S), ("ahead", 86400.0)):
            connection.execute(
                "INSERT INTO glionode_outbox (sop_instance_uid, destination, job_key, path, state, next_try, ask_at) "
                "VALUES (%s, 'pacs', %s, '', 'failed', now() + make_interval(secs => %s), now() + "
                "make_interval(secs => %s))",
                (uid, job.key, seconds, seconds),
            )
        connection.execute("UPDATE glionode_jobs SET finished_at = now() + interval '1 year'")
        connection.execute(
            "INSERT INTO glionode_pauses (destination, error, next_try) VALUES ('pacs', '', now() + interval '1 day')"
        )
        assert bring_back(connection, PAUSE_S) == 4
        due = connection.execute(
            "SELECT sop_instance_uid, next_try <= now(), ask_at <= now() FROM glionode_outbox ORDER BY 1"
        ).fetchall()
        assert due == [("ahead", True, True), ("planned", False, False)]
        assert connection.execute("SELECT finished_at <= now() FROM glionode_jobs").fetchone() == (True,)
        assert bring_back(connection, PAUSE_S) == 0


def test_a_worker_that_died_with_a_heartbeat_to_come_loses_its_job(database: Database) -> None:
    queue, job = JobQueue(database), new_job("1.2.3", ["1"], "m")
    queue.add(job)
    queue.start(job.key)
    with database.pool.connection() as connection:
        connection.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 day')")
        connection.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)"
        )
    assert queue.requeue_stalled(0.0) == 0, "it looks alive"
    with database.pool.connection() as connection:
        bring_back(connection, PAUSE_S)
    assert queue.requeue_stalled(0.0) == 1
    with database.pool.connection() as connection:
        due = "SELECT scheduled_at < now() - interval '1 year' FROM procrastinate_jobs WHERE status = 'todo'"
        assert connection.execute(due).fetchone() == (True,), "due on any host's clock"


def test_a_later_job_supersedes_one_that_was_made_while_the_clock_was_ahead(database: Database) -> None:
    queue, first, second = JobQueue(database), new_job("1.2.3", ["1"], "m"), new_job("1.2.3", ["1", "2"], "m")
    for job in (first, second):
        queue.add(job)
        taken = queue.start(job.key)
        assert taken is not None
        queue.finish(taken, Finished("segmented", None), "results", lambda _connection: None)
        with database.pool.connection() as connection:
            connection.execute(
                "UPDATE glionode_jobs SET created_at = now() + interval '1 year' WHERE key = %s", (first.key,)
            )
    with database.pool.connection() as connection:
        rows = dict(connection.execute("SELECT key, superseded_by FROM glionode_jobs").fetchall())
    assert rows == {first.key: second.key, second.key: None}
