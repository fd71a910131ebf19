"""A study that is segmented once more gets a result of its own, which supersedes the earlier one once it is whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info

from models.package import IntendedUse
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.job import Cancelled, Finished, Record, Restart, Retried, new_job
from plugin.jobs.outbox import OutboxState, OutgoingObject
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.settings.destinations import DestinationSettings
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    finish_job,
    insert_job,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    wait_until,
)

MakeNode = Callable[..., NodeInThread]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


def put(database: Database, key: str, path: str, use: IntendedUse = IntendedUse.RESEARCH) -> None:
    """Put an object into the outbox as a run of a job does."""
    with database.pool.connection() as connection:
        outbox.put(connection, key, [OutgoingObject("1.9", Path(path))], (PACS,), use)


def row(database: Database) -> tuple[str, str, str, int, str | None]:
    ((found),) = query(database, "SELECT job_key, path, state, attempts, last_error FROM glionode_outbox")
    return tuple(found)


def waiting_files(node: NodeInThread) -> list[Path]:
    """Return the files of the node's results."""
    return sorted((Path(node.settings.storage.data_dir) / "results").rglob("*.dcm"))


@pytest.mark.parametrize("ends", ["segmented", "failed", "killed", "cancelled"])
def test_of_what_waits_for_a_pacs_one_result_is_sent_whatever_the_next_run_comes_to(
    ends: str, make_node: MakeNode, data_dir: Path, pacs: Pacs
) -> None:
    pacs.stop()
    node = make_node(destinations=[pacs.destination()]).start("by_start")
    config, study = config_of(node, data_dir), new_study_uid()
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(lambda: node.status().destinations[0].objects == {"failed": 2}, "both wait for the PACS")
    before = waiting_files(node)
    (node.controls / "hold").touch()
    assert run(config, "force", study, "--again")[0] == 0
    wait_until(lambda: node.run_count() == 2, "it runs once more")
    assert waiting_files(node) == before, "while it runs, what waits is there"
    if ends == "failed":
        (node.controls / "fail").touch()
    if ends == "killed":
        (node.controls / "die").write_text("once\n")
    if ends == "cancelled":
        assert run(config, "cancel", study)[0] == 0
    (node.controls / "hold").unlink()
    replaced = ends in ("segmented", "killed")
    wait_until(lambda: node.jobs_are(**({"segmented": 2} if replaced else {"segmented": 1, ends: 1})), "it has ended")
    pacs.start()
    left = {"sent": 2, "withdrawn": 2} if replaced else {"sent": 2}
    wait_until(lambda: node.status().destinations[0].objects == left, "one result is sent, and nothing is given up")
    earlier = {str(read_file_meta_info(path).MediaStorageSOPInstanceUID) for path in before}
    assert len(pacs.received) == len(set(pacs.received)) == 2
    assert earlier.isdisjoint(pacs.received) if replaced else earlier == set(pacs.received)


def test_a_failed_repetition_leaves_the_earlier_result(database: Database, queue: JobQueue, tmp_path: Path) -> None:
    job = new_job(new_study_uid(), ["1"], "m")
    finish_job(queue, job, Finished("segmented", None), tmp_path / "first")
    again = queue.add(job, again=True)
    assert again is not None

    def outcome(key: str) -> tuple[str, str | None, str | None, str | None]:
        with database.pool.connection() as connection:
            found = show_job(connection, key)
        return found.job.state, found.job.reason, found.job.superseded_by, found.results_path

    for reason in ("FLAIR is cut.", "It is still cut."):
        taken = queue.start(again.key)
        assert taken is not None
        queue.finish(taken, Finished("failed", reason), str(tmp_path / "second"), lambda _: None)
        assert outcome(job.key) == ("segmented", None, None, str(tmp_path / "first"))
        assert outcome(again.key) == ("failed", reason, None, str(tmp_path / "second"))
        assert isinstance(queue.apply_request(again.key, Retried()), Restart)
    assert isinstance(queue.apply_request(again.key, Cancelled()), Record)
    assert isinstance(queue.apply_request(again.key, Retried()), Restart)
    taken = queue.start(again.key)
    assert taken is not None
    queue.finish(taken, Finished("segmented", None), str(tmp_path / "third"), lambda _: None)
    assert outcome(job.key) == ("segmented", None, again.key, str(tmp_path / "first"))
    assert outcome(again.key) == ("segmented", None, None, str(tmp_path / "third"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OutboxState.DEAD, (OutboxState.QUEUED, 0, None)),
        (OutboxState.FAILED, (OutboxState.FAILED, 7, "away")),
        (OutboxState.QUEUED, (OutboxState.QUEUED, 7, "away")),
        (OutboxState.REFUSED, (OutboxState.QUEUED, 0, None)),
        (OutboxState.SENT, (OutboxState.SENT, 7, "away")),
        (OutboxState.COMMITTED, (OutboxState.COMMITTED, 7, "away")),
    ],
)
def test_another_attempt_queues_what_was_given_up_and_does_not_send_again_what_was_sent(
    before: OutboxState, after: tuple[OutboxState, int, str | None], database: Database
) -> None:
    study = new_study_uid()
    for key in ("first", "second"):
        insert_job(database, key, study)
    put(database, "first", "a/1.dcm")
    query(database, "UPDATE glionode_outbox SET state = %s, attempts = 7, last_error = 'away'", before)
    put(database, "second", "b/1.dcm")
    assert row(database) == ("second", "b/1.dcm", *after)
    with database.pool.connection() as connection:
        due = outbox.due(connection, "pacs", 9)
    assert [each.path for each in due] == (["b/1.dcm"] if after[0] in ("queued", "failed") else [])


def test_a_new_result_that_has_to_be_looked_at_is_not_sent_in_place_of_one_that_waits(database: Database) -> None:
    insert_job(database, "first", new_study_uid())

    def put_held(hold: bool) -> str:
        with database.pool.connection() as connection:
            outbox.put(
                connection, "first", [OutgoingObject("1.9", Path("x"))], (PACS,), IntendedUse.RESEARCH, hold=hold
            )
        return row(database)[2]

    assert [put_held(hold) for hold in (False, True, False)] == ["queued", "held", "queued"]
    query(database, "UPDATE glionode_outbox SET state = 'failed', last_error = 'away'")
    assert put_held(True) == "held"
    query(database, "UPDATE glionode_outbox SET state = 'sent'")
    assert put_held(True) == "sent"


def test_other_content_under_a_uid_that_a_destination_has_is_told(database: Database) -> None:
    insert_job(database, "first", new_study_uid())

    def put_with(sha256: str) -> str | None:
        with database.pool.connection() as connection:
            made = OutgoingObject("1.9", Path("x"), sha256)
            outbox.put(connection, "first", [made], (PACS,), IntendedUse.RESEARCH)
        return row(database)[4]

    assert put_with("aa") is None
    assert put_with("bb") is None, "the destination has none yet, and will get this one"
    with database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", "1.9", None)
    assert put_with("bb") is None
    assert put_with("") is None
    assert "made again with other content" in (put_with("cc") or "")
    assert put_with("bb") is None, "it is the same again"
    query(database, "UPDATE glionode_outbox SET state = 'queued'")
    assert put_with("dd") is None
    with database.pool.connection() as connection:  # it was on its way when the new run ended
        outbox.record_sent(connection, "pacs", "1.9", None, sha256="bb")
    assert "made again with other content" in (row(database)[4] or "")
    audited = query(database, "SELECT what, detail FROM glionode_audit WHERE what <> 'not sent again' ORDER BY id")
    assert [what for what, _ in audited] == ["sent", "not replaced", "sent"]
    assert audited[1][1].startswith("1.9 to pacs: it was made again")


def test_what_waits_and_may_not_be_sent_any_more_is_refused(database: Database) -> None:
    insert_job(database, "first", new_study_uid())
    put(database, "first", "a/1.dcm")
    put(database, "first", "b/1.dcm", IntendedUse.DEMONSTRATION)
    assert row(database)[2] == "refused"
    put(database, "first", "c/1.dcm")
    assert row(database)[2] == "queued"


def test_force_says_what_is_superseded_and_what_becomes_of_what_waits(
    make_node: MakeNode, data_dir: Path, pacs: Pacs
) -> None:
    gone = pacs.destination("gone", port=1)
    node = make_node(destinations=[pacs.destination(), gone]).start("by_start")
    config, study = config_of(node, data_dir), new_study_uid()
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(
        lambda: [each.objects for each in node.status().destinations] == [{"sent": 2}, {"failed": 2}], "one has both"
    )
    status, text = run(config, "force", study, "--again")
    assert status == 0
    assert "Superseded: 2 deliveries" in text
    assert "then withdrawn: 2 deliveries that wait and 0" in text
    wait_until(lambda: node.jobs_are(segmented=2) and len(pacs.received) == 4, "the new result is sent, too")
    assert len(set(pacs.received)) == 4, "each object has a UID of its own"
    found = [each.objects for each in node.status().destinations]
    assert found[0] == {"sent": 4}
    assert found[1] in ({"failed": 2, "withdrawn": 2}, {"queued": 2, "withdrawn": 2})
    shown = json.loads(run(config, "show", study, "--json")[1])
    assert len(shown["supersedes"]) == 1
    assert {each["sop_instance_uid"] for each in shown["outputs"]} == set(pacs.received[2:])
    status, text = run(config, "force", study, "--again", "--json")
    assert json.loads(text)["deliveries_before"] == {"stored": 4, "waiting": 2, "given_up": 0}


def test_objects_that_another_attempt_did_not_make_are_withdrawn(database: Database, queue: JobQueue) -> None:
    study = new_study_uid()
    job, late = new_job(study, ["1"], "m"), new_job(study, ["1", "2"], "m")
    finish_job(queue, job, Finished("segmented", None))
    finish_job(queue, late, Finished("segmented", None))
    with database.pool.connection() as connection:
        made = [OutgoingObject(uid, Path("x")) for uid in ("1.1", "1.2", "1.3")]
        outbox.put(connection, job.key, made, (PACS,), IntendedUse.RESEARCH)
        outbox.put(connection, late.key, [OutgoingObject("1.4", Path("x"))], (PACS,), IntendedUse.RESEARCH)
        outbox.record_sent(connection, "pacs", "1.1", None)
        assert outbox.withdraw_earlier(connection, job.key, ["1.2", "1.5"]) == 1
    states = dict(query(database, "SELECT sop_instance_uid, state FROM glionode_outbox"))
    assert states == {"1.1": "sent", "1.2": "queued", "1.3": "withdrawn", "1.4": "queued"}
