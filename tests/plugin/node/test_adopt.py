"""After the database was lost, results on the disk are found again, and an operator says who gets them."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.archive.store import results_folder
from plugin.database.pool import Database
from plugin.jobs import unadopted
from plugin.jobs.job import Finished, JobState, new_job
from plugin.jobs.queue import JobQueue
from plugin.node.adopt import adopt_studies
from plugin.node.database_mark import DatabaseMark, hold_unknown_studies, read_mark, write_mark
from plugin.node.operations import OperationRefused, force_study
from plugin.retention.purge import KeptStudy, Purger
from plugin.settings.sections import Settings
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    finish_job,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    wait_until,
    write_instance,
    write_model,
)

MakeNode = Callable[..., NodeInThread]
USE = {"intended_use": "research"}
SR = "1.2.840.10008.5.1.4.1.1.88.34"
PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
ASKED = {**PACS, "name": "asked", "storage_commitment": True}


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    write_model(data_dir / "models" / "stand-in")
    (data_dir / "archive").mkdir()
    return Settings(
        storage={"data_dir": str(data_dir)},
        model={"name": "stand-in", "installed_dir": str(data_dir / "models")},
        destinations=(PACS, ASKED),
    )


def write_result(data_dir: Path, database: Database, job_key: str, **more: object) -> Path:
    """Write the result of a job that has begun, as its run does; return its folder."""
    queue = JobQueue(database)
    job = queue.find(job_key)
    assert job is not None
    of = queue.prior_results(job).job
    assert of is not None
    folder = data_dir / "results" / job.study_instance_uid / f"{job_key[-16:]}-{len(more)}"
    path = write_instance(make_instance(job.study_instance_uid, sop_class=SR), folder)
    written = {
        **{"path": path.name, "sop_class_uid": SR, "sop_instance_uid": path.stem, "series_instance_uid": "1.2"},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    times = {"queued_at": of.queued_at.isoformat(), "started_at": of.started_at.isoformat()}
    report = {
        **{"study_instance_uid": job.study_instance_uid, "status": "segmented", "reason": None, "roles": {}},
        **{"outputs": [written], "images_sha256": "i", "model": {"sha256": "w", "package_sha256": "p"} | USE},
        "job": {name: getattr(of, name) for name in of.__slots__} | times,
    }
    (folder / "report.json").write_text(json.dumps(report | more))
    return folder


def begin(database: Database, study: str, *images: str) -> str:
    queue = JobQueue(database)
    job = new_job(study, images, "m")
    queue.add(job)
    assert queue.start(job.key) is not None
    return job.key


def lose_database(database: Database) -> None:
    query(database, "TRUNCATE glionode_jobs, glionode_outbox, glionode_audit, glionode_unadopted RESTART IDENTITY")


def deliveries(database: Database) -> dict[str, str]:
    return dict(query(database, "SELECT destination, state FROM glionode_outbox"))


@pytest.mark.parametrize(
    ("deliver_to", "states"),
    [
        ((), {"pacs": "sent", "asked": "sent"}),
        (("pacs",), {"pacs": "queued", "asked": "sent"}),
        (("pacs", "asked"), {"pacs": "queued", "asked": "queued"}),
    ],
)
def test_a_result_on_the_disk_becomes_the_job_that_made_it(
    deliver_to: tuple[str, ...], states: dict[str, str], settings: Settings, database: Database, queue: JobQueue
) -> None:
    key = begin(database, new_study_uid(), "1", "2")
    folder = write_result(settings.data_dir, database, key)
    before = query(database, "SELECT analysis_started_at, created_at, instances_sha256, repetition FROM glionode_jobs")
    lose_database(database)
    assert hold_unknown_studies(settings.data_dir, database.pool) == 1
    (shown,) = adopt_studies(settings, database, (), frozenset(deliver_to), dry_run=True)
    assert (shown.results[0].job, shown.results[0].objects, shown.results[0].problem) == (key, 1, None)
    assert query(database, "SELECT count(*) FROM glionode_jobs") == [(0,)], "nothing is changed"
    assert adopt_studies(settings, database, (), frozenset(deliver_to), dry_run=False) == (shown,)
    after = "SELECT analysis_started_at, created_at, instances_sha256, repetition FROM glionode_jobs"
    assert query(database, after) == before
    found = query(
        database, "SELECT key, state, results_path, has_result, images_sha256, package_sha256 FROM glionode_jobs"
    )
    assert found == [(key, "segmented", str(folder), True, "i", "p")]
    assert deliveries(database) == states
    asked = query(database, "SELECT destination FROM glionode_outbox WHERE ask_at <= now() AND sop_class_uid = %s", SR)
    assert asked == ([("asked",)] if states["asked"] == "sent" else []), "a peer that commits is asked what it has"
    later = new_job(shown.study_instance_uid, ["1", "2", "3"], "m")
    queue.add(later)
    (predecessor,) = queue.prior_results(later).predecessors
    assert predecessor.sop_class_uid == SR
    assert not adopt_studies(settings, database, (), frozenset(), dry_run=False), "once is enough"


def test_a_damaged_result_is_computed_again_with_its_start(
    settings: Settings, database: Database, queue: JobQueue
) -> None:
    study = new_study_uid()
    image = make_instance(study)
    write_instance(image, settings.data_dir / "archive" / study / f"{study}.1")
    key = begin(database, study, str(image.SOPInstanceUID))
    folder = write_result(settings.data_dir, database, key)
    started = query(database, "SELECT analysis_started_at FROM glionode_jobs")
    (made,) = folder.glob("*.dcm")
    made.write_bytes(b"torn")
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    (found,) = adopt_studies(settings, database, (), frozenset({"pacs"}), dry_run=False)
    assert "1 files are missing or damaged" in str(found.results[0].problem)
    assert query(database, "SELECT key, state, analysis_started_at FROM glionode_jobs") == [
        (key, "queued", *started[0])
    ]
    assert queue.requeue_stalled(0) == 1
    assert queue.start(key) is not None
    assert query(database, "SELECT analysis_started_at FROM glionode_jobs") == started
    assert deliveries(database) == {}


def test_of_two_analyses_the_later_one_supersedes_and_is_sent(
    settings: Settings, database: Database, queue: JobQueue
) -> None:
    study = new_study_uid()
    first = begin(database, study, "1")
    write_result(settings.data_dir, database, first)
    job = queue.find(first)
    assert job is not None
    queue.finish(job, Finished("segmented", None), None, lambda _: None)
    again = queue.add(job, again=True)
    assert again is not None
    assert queue.start(again.key) is not None
    write_result(settings.data_dir, database, again.key)
    write_result(settings.data_dir, database, again.key, same_as=None)  # another attempt, as after a crash
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    (found,) = adopt_studies(settings, database, (), frozenset({"pacs"}), dry_run=False)
    assert [each.job for each in found.results] == [first, again.key]
    rows = query(database, "SELECT key, state, superseded_by FROM glionode_jobs ORDER BY created_at")
    assert rows == [(first, "segmented", again.key), (again.key, "segmented", None)]
    sent = query(database, "SELECT job_key, state FROM glionode_outbox WHERE destination = 'pacs' ORDER BY state")
    assert sent == [(again.key, "queued"), (first, "withdrawn")]


def test_a_result_of_a_demonstration_is_refused_whatever_model_is_served_now(
    settings: Settings, database: Database
) -> None:
    key = begin(database, new_study_uid(), "1")
    write_result(settings.data_dir, database, key, model={"sha256": "w", "intended_use": "demonstration"})
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    adopt_studies(settings, database, (), frozenset({"pacs"}), dry_run=False)
    assert deliveries(database) == {"pacs": "refused", "asked": "refused"}


def test_a_failure_after_a_result_does_not_hide_it(settings: Settings, database: Database) -> None:
    key = begin(database, new_study_uid(), "1")
    folder = write_result(settings.data_dir, database, key)
    write_result(settings.data_dir, database, key, status="failed", outputs=[])  # made later, as after a damaged disk
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    adopt_studies(settings, database, (), frozenset(), dry_run=False)
    assert query(database, "SELECT state, results_path FROM glionode_jobs") == [("segmented", str(folder))]


def test_a_result_of_images_that_were_replaced_since_is_sent_to_nobody(settings: Settings, database: Database) -> None:
    study = new_study_uid()
    series = settings.data_dir / "archive" / study / f"{study}.1"
    path = write_instance(make_instance(study), series)
    key = begin(database, study, path.stem)
    write_result(settings.data_dir, database, key)
    path.rename(series / f"{path.stem}-1.replaced")  # another patient's, perhaps
    write_instance(make_instance(study), series).rename(path)
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    adopt_studies(settings, database, (), frozenset({"pacs"}), dry_run=False)
    assert deliveries(database) == {"pacs": "withdrawn", "asked": "sent"}
    assert query(database, "SELECT count(*) FROM glionode_outbox WHERE ask_at IS NOT NULL") == [(0,)]


def test_a_result_of_an_older_version_is_recognised_by_its_folder(settings: Settings, database: Database) -> None:
    study = new_study_uid()
    image = make_instance(study)
    write_instance(image, settings.data_dir / "archive" / study / f"{study}.1")
    key = begin(database, study, str(image.SOPInstanceUID))
    folder = write_result(settings.data_dir, database, key, job=None, model={"sha256": "m"})
    other = write_result(settings.data_dir, database, key, job=None, model={"sha256": "n"}, same_as=None)
    named = results_folder(settings.data_dir, study, key)
    folder.rename(named.with_name(f"{named.name}-0123456789abcdef"))
    other.rename(named.with_name("0123456789abcdef-0123456789abcdef"))
    torn = write_result(settings.data_dir, database, key)
    (torn / "report.json").write_text("{")
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    (found,) = adopt_studies(settings, database, (), frozenset(), dry_run=False)
    assert sorted(each.job for each in found.results) == ["", "", key]
    assert sorted(str(each.problem).partition(";")[0] for each in found.results) == [
        "None",
        "an older version made it of images that have changed since",
        "its report is damaged",
    ]
    assert query(database, "SELECT key, state FROM glionode_jobs") == [(key, "segmented")]


def test_an_empty_result_that_the_settings_hold_waits_for_its_release(settings: Settings, database: Database) -> None:
    key = begin(database, new_study_uid(), "1")
    write_result(settings.data_dir, database, key, remarks=[{"kind": "empty", "text": "Nothing.", "roles": []}])
    lose_database(database)
    hold_unknown_studies(settings.data_dir, database.pool)
    holding = settings.model_copy(update={"delivery": settings.delivery.model_copy(update={"hold_empty": True})})
    adopt_studies(holding, database, (), frozenset({"pacs"}), dry_run=False)
    assert deliveries(database) == {"pacs": "held", "asked": "held"}


def mark(database: Database) -> DatabaseMark:
    ((identity,),) = query(database, "SELECT id FROM glionode_identity")
    ((entries,),) = query(database, "SELECT coalesce(max(id), 0) FROM glionode_audit")
    return DatabaseMark(str(identity), entries)


def test_a_known_database_holds_nothing_and_another_one_holds_what_was_there(
    settings: Settings, database: Database, queue: JobQueue
) -> None:
    study, other = new_study_uid(), new_study_uid()
    write_instance(make_instance(study), settings.data_dir / "archive" / study / f"{study}.1")
    key = begin(database, other, "1")
    write_result(settings.data_dir, database, key)
    assert hold_unknown_studies(settings.data_dir, database.pool) == 0, "the first start with this version"
    assert read_mark(settings.data_dir) == mark(database)
    assert hold_unknown_studies(settings.data_dir, database.pool) == 0
    write_mark(settings.data_dir, DatabaseMark("another", 0))
    assert hold_unknown_studies(settings.data_dir, database.pool) == 1
    with database.pool.connection() as connection:
        assert unadopted.held_studies(connection) == (study,), "the result of the other one is known"
    assert read_mark(settings.data_dir) == mark(database)
    assert queue.add(new_job(study, ["1"], "m")) is None
    assert queue.add(new_job(new_study_uid(), ["1"], "m")) is not None, "new studies are taken"


def test_an_older_state_of_the_database_holds_the_results_that_it_does_not_know(
    settings: Settings, database: Database, queue: JobQueue
) -> None:
    known, waited, newer, no_result = (new_study_uid() for _ in range(4))
    for study in (known, waited, newer, no_result):
        write_instance(make_instance(study), settings.data_dir / "archive" / study / f"{study}.1")
    finish_job(queue, new_job(known, ["1"], "m"), Finished("segmented", None))
    queue.add(new_job(waited, ["1"], "m"))
    waiting = queue.newest_job(waited, frozenset(JobState))
    assert waiting is not None
    of_backup = query(database, "SELECT max(id) FROM glionode_audit")[0][0]
    assert queue.start(waiting.key) is not None
    write_result(settings.data_dir, database, waiting.key)
    key = begin(database, newer, "1")
    write_result(settings.data_dir, database, key)
    write_mark(settings.data_dir, DatabaseMark(mark(database).database, of_backup + 5))
    # What the backup had: the job that waited had not begun, and the newer one was not there.
    query(database, "DELETE FROM glionode_jobs WHERE key = %s", key)
    query(
        database,
        "UPDATE glionode_jobs SET state = 'queued', attempts = 0, started_at = NULL, analysis_started_at = NULL "
        "WHERE key = %s",
        waiting.key,
    )
    assert hold_unknown_studies(settings.data_dir, database.pool) == 2
    with database.pool.connection() as connection:
        assert set(unadopted.held_studies(connection)) == {waited, newer}
    assert queue.start(waiting.key) is None, "it is not computed anew"
    assert queue.requeue_stalled(0) == 0
    adopt_studies(settings, database, (), frozenset(), dry_run=False)
    states = dict(query(database, "SELECT key, state FROM glionode_jobs WHERE key = ANY(%s)", [waiting.key, key]))
    assert states == {waiting.key: "segmented", key: "segmented"}


def test_a_crash_between_a_result_and_its_row_holds_nothing(settings: Settings, database: Database) -> None:
    key = begin(database, new_study_uid(), "1")
    write_result(settings.data_dir, database, key)
    write_mark(settings.data_dir, DatabaseMark(mark(database).database, 10**6))
    assert hold_unknown_studies(settings.data_dir, database.pool) == 0, "the next attempt makes the same result"


def test_what_waits_is_neither_purged_nor_forced(settings: Settings, database: Database) -> None:
    study = new_study_uid()
    write_instance(make_instance(study), settings.data_dir / "archive" / study / f"{study}.1")
    with database.pool.connection() as connection:
        unadopted.hold(connection, [study])
    purger = Purger(settings.data_dir, database.pool)
    for outcome in (purger.purge(study, 1e12, 0, dry_run=False), purger.purge_requested(study, dry_run=False)):
        assert isinstance(outcome, KeptStudy)
        assert "glionode adopt" in outcome.why
    for again in (False, True):
        with pytest.raises(OperationRefused, match="glionode adopt"):
            force_study(settings, database, study, again)


def test_after_the_loss_of_the_database_nothing_is_computed_or_sent_until_it_is_adopted(
    make_node: MakeNode, data_dir: Path, pacs: Pacs, caplog: pytest.LogCaptureFixture
) -> None:
    node = make_node(destinations=[pacs.destination()], study={"stable_after_s": 0.3, "rescan_every_s": 1}).start(
        "by_start"
    )
    config, study, unfinished = config_of(node, data_dir), new_study_uid(), new_study_uid()
    destination = "\n".join(f"{key} = {json.dumps(value)}" for key, value in pacs.destination().items())
    config.write_text(f"{config.read_text()}[[destinations]]\n{destination}\n")
    send(node.port, *(make_instance(study) for _ in range(2)))
    wait_until(lambda: len(pacs.received) == 2, "the result is sent")
    (before,) = json.loads(run(config, "jobs", "--json")[1])
    (node.controls / "hold").touch()
    send(node.port, *(make_instance(unfinished) for _ in range(2)))
    wait_until(lambda: node.run_count() == 2, "the second study is being segmented")
    node.end()
    (node.controls / "hold").unlink()
    shutil.rmtree(Path(node.settings.storage.data_dir) / "postgres")
    with caplog.at_level(logging.WARNING):
        node = make_node(destinations=[pacs.destination()], study={"stable_after_s": 0.3, "rescan_every_s": 1}).start()
    assert "does not know 2 studies" in caplog.text
    assert "glionode adopt" in node.status().warnings["unadopted"]
    new = new_study_uid()
    send(node.port, *(make_instance(new) for _ in range(2)))
    wait_until(lambda: len(pacs.received) == 4, "a new study is taken and sent")
    assert node.run_count() == 3, "and no other is computed"
    status, text = run(config, "adopt")
    assert (status, "--deliver" in text) == (64, True)
    assert run(config, "adopt", "--deliver", "nowhere")[0] == 64
    status, text = run(config, "adopt", "--dry-run")
    assert status == 0
    assert "Found: 1 results of 2 studies; 1 studies have no result" in text
    status, text = run(config, "adopt", "--deliver", "none", "--json")
    assert status == 0
    results = {each["study_instance_uid"]: each["results"] for each in json.loads(text)}
    assert [each["job"] for each in results[study]] == [before["key"]]
    wait_until(lambda: len(pacs.received) == 6 and node.jobs_are(segmented=3), "the one without a result is taken")
    assert node.run_count() == 4, "the result that was found is not computed"
    assert len(set(pacs.received)) == 6, "nothing was sent twice"
    assert "unadopted" not in node.status().warnings
