"""Which studies are purged and when: only finished and delivered ones, and no image that has just arrived."""

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.archive.replaced_files import replace_file, replaced_files
from plugin.archive.store import results_folder
from plugin.commitment import requester_rows
from plugin.database.audit_log import Peer
from plugin.database.pool import Database
from plugin.dimse.commitment_messages import CommitmentReport, Reference
from plugin.jobs import outbox
from plugin.jobs.job import Finished, JobState, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.node.operations import OperationRefused, retry_job
from plugin.retention.loop import Retention
from plugin.retention.purge import KeptStudy, PurgedStudy, Purger
from plugin.retention.rules import JobFacts, StudyFacts, reason_to_keep, reason_to_keep_requested
from plugin.retention.taken_study import TakenStudy, new_taken_study, taken_studies
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings, StorageSettings
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    make_instance,
    new_study_uid,
    query,
    run,
    send,
    wait_until,
    write_instance,
)

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
FAR = 1e11
"""A time long after today, in seconds since 1970."""

DONE = JobFacts(JobState.SEGMENTED, "i", False, frozenset({"sent"}))


def facts(*jobs: JobFacts, instances: str | None = "i") -> StudyFacts:
    return StudyFacts(jobs, instances, 1000.0)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (facts(DONE), None),
        (facts(DONE, instances=None), None),
        (facts(replace(DONE, deliveries=frozenset({"sent", "committed"}))), None),
        (facts(JobFacts(JobState.NOT_ELIGIBLE, "i", False)), None),
        (facts(JobFacts(JobState.CANCELLED, "i", False)), None),
        (facts(JobFacts(JobState.FAILED, "h", True), DONE), None),
        (facts(JobFacts(JobState.FAILED, "i", False)), "failed"),
        (facts(DONE, JobFacts(JobState.QUEUED, "i", False)), "waits or runs"),
        (facts(DONE, JobFacts(JobState.RUNNING, "i", False)), "waits or runs"),
        (facts(DONE, instances="j"), "no job has taken"),
        (facts(), "no job has taken"),
        (facts(replace(DONE, deliveries=frozenset())), "sent nowhere"),
        *(
            (facts(replace(DONE, deliveries=frozenset({"sent", state}))), "not all of its results")
            for state in ("queued", "failed", "dead", "refused", "sent, not committed")
        ),
    ],
)
def test_only_finished_and_delivered_studies_may_be_purged(study: StudyFacts, said: str | None) -> None:
    why = reason_to_keep(study, 1100.0, 100.0)
    assert (said in why) if said and why else why == said
    assert reason_to_keep(study, 1099.0, 100.0) == "it is not old enough"
    is_open = any(job.state in (JobState.QUEUED, JobState.RUNNING) for job in study.jobs)
    assert (reason_to_keep_requested(study) is not None) is is_open


class Site:
    """A data folder, and a database with its jobs."""

    def __init__(self, data_dir: Path, database: Database) -> None:
        self.data_dir = data_dir
        self.database = database
        self.queue = JobQueue(database)
        (data_dir / "archive").mkdir(parents=True)

    def receive(self, study: str, count: int = 2) -> list[str]:
        """Put images into the archive; return their UIDs."""
        folder = self.data_dir / "archive" / study / f"{study}.1"
        return [write_instance(make_instance(study), folder).stem for _ in range(count)]

    def finish(self, study: str, uids: list[str], status: str = "segmented") -> str:
        job = new_job(study, uids, "m")
        assert self.queue.add(job)
        taken = self.queue.start(job.key)
        assert taken is not None
        folder = results_folder(self.data_dir, study, job.key)
        folder.mkdir(parents=True)
        (folder / "1.dcm").write_bytes(b"x" * 1000)
        objects = [OutgoingObject(f"{study}.99", folder / "1.dcm")] if status == "segmented" else []
        self.queue.finish(
            taken,
            Finished(status, None),
            str(folder),
            lambda connection: outbox.put(connection, job.key, objects, (PACS,), IntendedUse.RESEARCH),
        )
        return job.key

    def deliver(self, study: str) -> None:
        with self.database.pool.connection() as connection:
            outbox.record_sent(connection, "pacs", f"{study}.99", None)

    def deliver_study(self) -> str:
        """Add a study that was received, segmented and delivered."""
        study = new_study_uid()
        self.finish(study, self.receive(study))
        self.deliver(study)
        return study

    def files(self, study: str) -> int:
        return sum(path.is_file() for path in self.data_dir.rglob("*") if study in str(path))

    def purger(self) -> Purger:
        return Purger(self.data_dir, self.database.pool)


@pytest.fixture
def site(data_dir: Path, database: Database) -> Site:
    return Site(data_dir / "data", database)


def test_a_delivered_study_is_purged_and_its_rows_stay(site: Site) -> None:
    study = site.deliver_study()
    purger = site.purger()
    images = sum(path.stat().st_size for path in (site.data_dir / "archive").rglob("*.dcm"))
    expected = PurgedStudy(study, 3, images + 1000)
    assert purger.purge(study, FAR, 0.0, dry_run=True) == expected
    assert site.files(study) == 3
    assert purger.purge(study, FAR, 0.0, dry_run=False) == expected
    assert site.files(study) == 0
    assert purger.studies() == ()
    with site.database.pool.connection() as connection:
        found = show_job(connection, study)
    assert (found.job.state, found.job.objects, found.results_path) == ("segmented", {"sent": 1}, None)
    assert found.job.purged_at is not None
    assert [entry.what for entry in found.audit] == ["ended", "sent", "purged"]
    with pytest.raises(OperationRefused, match="purged"):
        retry_job(site.database, study)


def test_an_undelivered_study_is_purged_on_request_only(site: Site) -> None:
    study = new_study_uid()
    site.finish(study, site.receive(study))
    purger = site.purger()
    assert isinstance(purger.purge(study, FAR, 0.0, dry_run=False), KeptStudy)
    assert site.files(study) == 3
    outcome = purger.purge_requested(study, dry_run=True)
    assert isinstance(outcome, PurgedStudy)
    assert outcome.undelivered == 1
    assert isinstance(purger.purge_requested(study, dry_run=False), PurgedStudy)
    assert site.files(study) == 0
    purged = query(site.database, "SELECT detail FROM glionode_audit WHERE what = 'purged'")
    assert "1 deliveries that were never made" in purged[0][0]
    with site.database.pool.connection() as connection:
        assert outbox.due(connection, "pacs", 9) == (), "what is gone is not tried to be sent"
    assert isinstance(purger.purge_requested(study, dry_run=False), KeptStudy), "there is nothing left"


def test_a_study_waits_for_storage_commitment(site: Site) -> None:
    study = new_study_uid()
    site.finish(study, site.receive(study))
    with site.database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", f"{study}.99", None, commit_as="1.2.840.10008.5.1.4.1.1.66.4")
    assert site.purger().purge(study, FAR, 0.0, dry_run=False) == KeptStudy(
        study, "not all of its results are delivered"
    )
    with site.database.pool.connection() as connection:
        assert len(requester_rows.find_due(connection, "pacs", 9)) == 1
        requester_rows.record_request(connection, "pacs", "2.25.1", [f"{study}.99"], 600)
        report = CommitmentReport("2.25.1", (Reference("1.2.840.10008.5.1.4.1.1.66.4", f"{study}.99"),))
        assert requester_rows.apply_report(connection, report, Peer("PACS", ""), DeliverySettings()) == (1, 0)
        (output,) = show_job(connection, study).outputs
    assert (output.deliveries[0].state, output.deliveries[0].asked_again_at) == ("committed", None)
    assert output.deliveries[0].committed_at is not None
    assert isinstance(site.purger().purge(study, FAR, 0.0, dry_run=False), PurgedStudy)


def test_after_a_requested_purge_no_commitment_is_requested(site: Site) -> None:
    study = new_study_uid()
    site.finish(study, site.receive(study))
    with site.database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", f"{study}.99", None, commit_as="1.2.840.10008.5.1.4.1.1.66.4")
    assert isinstance(site.purger().purge_requested(study, dry_run=False), PurgedStudy)
    with site.database.pool.connection() as connection:
        assert requester_rows.find_due(connection, "pacs", 9) == ()


def test_a_study_with_images_that_no_job_has_taken_stays(site: Site) -> None:
    study = site.deliver_study()
    site.receive(study, 1)
    assert site.purger().purge(study, FAR, 0.0, dry_run=False) == KeptStudy(
        study, "it has images that no job has taken yet"
    )
    assert site.files(study) == 4


def test_images_that_come_again_after_the_purge_stay_until_a_job_has_taken_them(site: Site) -> None:
    study = new_study_uid()
    images = [make_instance(study) for _ in range(2)]
    folder = site.data_dir / "archive" / study / f"{study}.1"
    uids = [write_instance(each, folder).stem for each in images]
    site.finish(study, uids)
    site.deliver(study)
    assert isinstance(site.purger().purge(study, FAR, 0.0, dry_run=False), PurgedStudy)
    for each in images:
        write_instance(each, folder)
    outcome = site.purger().purge(study, FAR, 0.0, dry_run=False)
    assert outcome == KeptStudy(study, "it has images that no job has taken yet")


def test_an_image_that_arrives_during_the_purge_is_kept(site: Site) -> None:
    class Slow(Purger):
        def _files(self, study: str) -> list[Path]:
            site.receive(study, 1)
            return super()._files(study)

    study = site.deliver_study()
    outcome = Slow(site.data_dir, site.database.pool).purge(study, FAR, 0.0, dry_run=False)
    assert outcome == KeptStudy(study, "an image of it has just arrived")
    assert len(list((site.data_dir / "archive" / study).rglob("*.dcm"))) == 3


def test_an_image_that_takes_the_place_of_another_during_the_purge_is_kept(site: Site) -> None:
    study = site.deliver_study()
    image = next((site.data_dir / "archive" / study).rglob("*.dcm"))
    new = site.data_dir / "new"
    new.write_bytes(b"corrected")

    class Slow(Purger):
        def _files(self, study: str) -> list[Path]:
            replace_file(image, new)
            return super()._files(study)

    outcome = Slow(site.data_dir, site.database.pool).purge(study, FAR, 0.0, dry_run=False)
    assert outcome == KeptStudy(study, "an image of it has just arrived")
    assert image.read_bytes() == b"corrected"
    assert len(replaced_files(image)) == 1, "what was put back has its earlier file"
    assert site.purger().purge(study, FAR, 0.0, dry_run=False) == KeptStudy(
        study, "it has images that no job has taken yet"
    )


def test_after_a_crash_undecided_studies_are_put_back_and_the_others_removed(site: Site) -> None:
    undecided, decided = site.deliver_study(), site.deliver_study()
    for study, place in ((undecided, "purging"), (decided, "purged")):
        (site.data_dir / place).mkdir()
        (site.data_dir / "archive" / study).rename(site.data_dir / place / study)
    (late,) = site.receive(undecided, 1)
    site.purger().finish_interrupted()
    images = list((site.data_dir / "archive" / undecided).rglob("*.dcm"))
    assert len(images) == 3
    assert late in {path.stem for path in images}
    assert site.files(decided) == 1, "its result, which the next purge removes"
    assert not list((site.data_dir / "purged").iterdir())
    assert not list((site.data_dir / "purging").iterdir())


def test_when_the_disk_fills_the_oldest_studies_go_first_and_no_more_than_needed(site: Site) -> None:
    first, second = site.deliver_study(), site.deliver_study()
    for number, study in enumerate((first, second)):
        os.utime(site.data_dir / "archive" / study / f"{study}.1", (number + 1, number + 1))
    free = iter([0, 0, 2 << 20, 2 << 20])
    retention = Retention(site.purger(), StorageSettings(purge_below_mb=1), lambda: next(free))
    assert [study.study_instance_uid for study in retention.purge_due(FAR)] == [first]
    assert (site.files(first), site.files(second)) == (0, 3)


def test_by_default_nothing_is_purged(site: Site) -> None:
    site.deliver_study()
    assert Retention(site.purger(), StorageSettings(), lambda: 0).purge_due(FAR) == ()


def test_a_running_node_purges_old_studies(
    make_node: Callable[..., NodeInThread], data_dir: Path, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.retention.loop.PURGE_EVERY_S", 0.1)
    storage = {"data_dir": str(data_dir / "data"), "minimum_free_mb": 0, "keep_days": 1e-6}
    node = make_node(storage=storage, destinations=[pacs.destination()]).start()
    study, failing = new_study_uid(), new_study_uid()
    images = [make_instance(study) for _ in range(2)]
    send(node.port, *images)
    archived = data_dir / "data" / "archive" / study
    wait_until(lambda: len(pacs.received) == 2 and not archived.exists(), "it is delivered and removed")
    send(node.port, *images)
    wait_until(lambda: node.jobs_are(segmented=2) and not archived.exists(), "it comes again and is segmented again")
    shown = json.loads(run(config_of(node, data_dir), "show", study, "--json")[1])
    assert len(pacs.received) == 2, "objects of the same UIDs are not sent twice"
    said = [entry["detail"] for entry in shown["audit"] if entry["what"] == "not sent again"]
    assert said == [
        f"2 objects are at pacs already; `glionode resend {shown['job']['key']} --to pacs` sends them again"
    ]
    (node.controls / "fail").touch()
    send(node.port, *(make_instance(failing) for _ in range(2)))
    wait_until(lambda: node.jobs_are(segmented=2, failed=1), "another one fails")
    config = config_of(node, data_dir)
    status, text = run(config, "purge", "--json")
    assert status == 0
    assert json.loads(text) == {"purged": [], "kept": [{"study_instance_uid": failing, "why": "its job failed"}]}
    node.end()
    status, text = run(config, "purge", failing, "--dry-run")
    assert (status, f"{failing}: 2 files" in text) == (0, True)
    assert run(config, "purge", failing)[0] == 0
    assert run(config, "purge", failing)[0] == 1
    assert run(config, "purge", "--older-than", "x")[0] == 64
    assert run(config, "purge", "../x")[0] == 64


class Killed(BaseException):
    """Stands for a kill -9: nothing of the process runs after it."""


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have a purge killed where it calls a method of TakenStudy."""

    def killed(*_arguments: object) -> None:
        raise Killed

    monkeypatch.setattr(TakenStudy, name, killed)


def test_a_purge_that_was_killed_before_its_decision_is_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    study = site.deliver_study()
    with monkeypatch.context() as killing:
        stop_at(killing, "sync")
        with pytest.raises(Killed):
            site.purger().purge(study, FAR, 0.0, dry_run=False)
    assert not (site.data_dir / "archive" / study).exists(), "it is hidden"
    assert taken_studies(site.data_dir)[0].study == study
    (late,) = site.receive(study, 1)
    site.purger().finish_interrupted()
    assert site.files(study) == 4
    assert late in {path.stem for path in (site.data_dir / "archive" / study).rglob("*.dcm")}
    assert results_folder(site.data_dir, study, new_job(study, [], "m").key).parent.is_dir()
    with site.database.pool.connection() as connection:
        assert show_job(connection, study).job.purged_at is None
    assert taken_studies(site.data_dir) == ()


def test_a_purge_that_was_killed_after_its_decision_is_finished(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    study = site.deliver_study()
    with monkeypatch.context() as killing:
        stop_at(killing, "remove")
        with pytest.raises(Killed):
            site.purger().purge(study, FAR, 0.0, dry_run=False)
    images = site.receive(study, 1)
    site.purger().finish_interrupted()
    assert site.files(study) == 1, "what has come since stays"
    assert site.queue.add(new_job(study, images, "m")), "and gets a job"
    with site.database.pool.connection() as connection:
        assert connection.execute("SELECT count(*) FROM glionode_purges").fetchone() == (0,)
        purged = connection.execute("SELECT count(*) FROM glionode_jobs WHERE purged_at IS NOT NULL").fetchone()
    assert purged == (1,)


def test_other_bytes_that_came_during_an_interrupted_purge_lose_neither(site: Site) -> None:
    study = site.deliver_study()
    image = next((site.data_dir / "archive" / study).rglob("*.dcm"))
    first = image.read_bytes()
    taken = new_taken_study(site.data_dir, study)
    taken.folder.mkdir(parents=True)
    taken.take("archive")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"came meanwhile")
    site.purger().finish_interrupted()
    assert image.read_bytes() == b"came meanwhile"
    assert [path.read_bytes() for path in replaced_files(image)] == [first]
    assert len(list(image.parent.glob("*.dcm"))) == 2


def test_a_failing_database_leaves_the_study_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    study = site.deliver_study()
    monkeypatch.setattr("plugin.retention.purge.audit_log.record", lambda *_a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        site.purger().purge(study, FAR, 0.0, dry_run=False)
    assert site.files(study) == 3


def test_a_node_that_starts_puts_back_what_a_killed_purge_took_and_takes_a_study_from_the_future(
    make_node: Callable[..., NodeInThread], data_dir: Path
) -> None:
    study, future = new_study_uid(), new_study_uid()
    archive = data_dir / "data" / "archive"
    for each in (study, future):
        write_instance(make_instance(each), archive / each / f"{each}.1")
    ahead = time.time() + 1e6
    os.utime(archive / future / f"{future}.1", (ahead, ahead))
    taken = new_taken_study(data_dir / "data", study)
    taken.folder.mkdir(parents=True)
    taken.take("archive")
    node = make_node()
    assert "1 studies are out of the archive" in node.status().warnings["purge"]
    node.start()
    wait_until(lambda: node.jobs_are(not_eligible=2), "both get their jobs")
    status = node.status()
    assert "purge" not in status.warnings
    assert [trouble.place for trouble in status.troubles] == ["clock"]
    assert future in status.troubles[0].message


def test_nothing_is_purged_for_its_age_for_a_day_after_the_clock_was_set_forward(site: Site) -> None:
    study = site.deliver_study()
    retention = Retention(site.purger(), StorageSettings(keep_days=1), lambda: 1 << 60)
    assert retention.believes(1e9, 100.0)
    assert retention.believes(1e9 + 30, 130.0)
    assert retention.believes(1e9 - 86400, 160.0), "a clock that was set back makes nothing older"
    assert not retention.believes(FAR, 190.0)
    assert retention.purge_due(FAR, by_age=False) == ()
    assert not retention.believes(FAR + 86000, 190.0 + 86000)
    assert retention.believes(FAR + 86400, 190.0 + 86400)
    assert [each.study_instance_uid for each in retention.purge_due(FAR)] == [study]


def test_a_study_that_cannot_be_put_back_stops_neither_the_node_nor_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = sorted(site.deliver_study() for _ in range(2))
    for study in studies:
        taken = new_taken_study(site.data_dir, study)
        taken.folder.mkdir(parents=True)
        taken.take("archive")
    real = TakenStudy.put_back

    def full(taken: TakenStudy) -> None:
        if taken.study == studies[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(taken)

    with monkeypatch.context() as disk:
        disk.setattr(TakenStudy, "put_back", full)
        site.purger().finish_interrupted()
    assert [(site.data_dir / "archive" / study).is_dir() for study in studies] == [False, True]
    site.purger().finish_interrupted()
    assert site.files(studies[0]) == 3
