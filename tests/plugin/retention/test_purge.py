"""What is removed from the disk, by whom and when: only what is over and delivered, and never what has just come."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.package import IntendedUse
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
from plugin.retention.rules import JobFacts, StudyFacts, why_kept, why_kept_though_named
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import DeliverySettings, StorageSettings
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    make_instance,
    new_study_uid,
    run,
    send,
    wait_until,
    write_instance,
)

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
FAR = 1e11
"""A time at which everything of today is old, seconds since 1970."""

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
def test_only_what_is_over_and_delivered_goes(study: StudyFacts, said: str | None) -> None:
    why = why_kept(study, 1100.0, 100.0)
    assert (said in why) if said and why else why == said
    assert why_kept(study, 1099.0, 100.0) == "it is not old enough"
    is_open = any(job.state in (JobState.QUEUED, JobState.RUNNING) for job in study.jobs)
    assert (why_kept_though_named(study) is not None) is is_open


class Site:
    """A data folder with studies that have been through."""

    def __init__(self, data_dir: Path, database: Database) -> None:
        self.data_dir = data_dir
        self.database = database
        self.queue = JobQueue(database)
        (data_dir / "archive").mkdir(parents=True)

    def receive(self, study: str, count: int = 2) -> list[str]:
        """Images as the archive keeps them; returns their UIDs."""
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

    def through(self) -> str:
        """A study that came, was segmented and delivered."""
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


def test_a_delivered_study_is_removed_and_still_told_of(site: Site) -> None:
    study = site.through()
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


def test_what_is_not_delivered_stays_until_it_is_named(site: Site) -> None:
    study = new_study_uid()
    site.finish(study, site.receive(study))
    purger = site.purger()
    assert isinstance(purger.purge(study, FAR, 0.0, dry_run=False), KeptStudy)
    assert site.files(study) == 3
    assert isinstance(purger.purge_named(study, dry_run=False), PurgedStudy)
    assert site.files(study) == 0
    with site.database.pool.connection() as connection:
        assert outbox.due(connection, "pacs", 9) == (), "what is gone is not tried to be sent"
    assert isinstance(purger.purge_named(study, dry_run=False), KeptStudy), "there is nothing left"


def test_what_a_destination_is_still_to_commit_to_stays(site: Site) -> None:
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


def test_a_named_study_that_waits_for_commitment_is_not_asked_about_any_more(site: Site) -> None:
    study = new_study_uid()
    site.finish(study, site.receive(study))
    with site.database.pool.connection() as connection:
        outbox.record_sent(connection, "pacs", f"{study}.99", None, commit_as="1.2.840.10008.5.1.4.1.1.66.4")
    assert isinstance(site.purger().purge_named(study, dry_run=False), PurgedStudy)
    with site.database.pool.connection() as connection:
        assert requester_rows.find_due(connection, "pacs", 9) == ()


def test_images_that_came_after_the_job_keep_their_study(site: Site) -> None:
    study = site.through()
    site.receive(study, 1)
    assert site.purger().purge(study, FAR, 0.0, dry_run=False) == KeptStudy(
        study, "it has images that no job has taken yet"
    )
    assert site.files(study) == 4


def test_an_image_that_comes_while_its_study_is_removed_is_kept(site: Site) -> None:
    class Slow(Purger):
        def _files(self, study: str) -> list[Path]:
            site.receive(study, 1)
            return super()._files(study)

    study = site.through()
    outcome = Slow(site.data_dir, site.database.pool).purge(study, FAR, 0.0, dry_run=False)
    assert outcome == KeptStudy(study, "an image of it has just come")
    assert len(list((site.data_dir / "archive" / study).rglob("*.dcm"))) == 3


def test_after_a_crash_what_was_undecided_is_put_back_and_the_rest_removed(site: Site) -> None:
    undecided, decided = site.through(), site.through()
    for study, place in ((undecided, "purging"), (decided, "purged")):
        (site.data_dir / place).mkdir()
        (site.data_dir / "archive" / study).rename(site.data_dir / place / study)
    (late,) = site.receive(undecided, 1)
    site.purger().clear_leftovers()
    images = list((site.data_dir / "archive" / undecided).rglob("*.dcm"))
    assert len(images) == 3
    assert late in {path.stem for path in images}
    assert site.files(decided) == 1, "its result, which the next purge removes"
    assert not list((site.data_dir / "purged").iterdir())
    assert not list((site.data_dir / "purging").iterdir())


def test_a_low_disk_frees_the_oldest_first_and_no_more_than_needed(site: Site) -> None:
    first, second = site.through(), site.through()
    for number, study in enumerate((first, second)):
        os.utime(site.data_dir / "archive" / study / f"{study}.1", (number + 1, number + 1))
    free = iter([0, 0, 2 << 20, 2 << 20])
    retention = Retention(site.purger(), StorageSettings(purge_below_mb=1), lambda: next(free))
    assert [study.study_instance_uid for study in retention.look(FAR)] == [first]
    assert (site.files(first), site.files(second)) == (0, 3)


def test_nothing_is_removed_where_the_settings_do_not_ask(site: Site) -> None:
    site.through()
    assert Retention(site.purger(), StorageSettings(), lambda: 0).look(FAR) == ()


def test_a_running_node_removes_what_is_old(
    make_node: Callable[..., NodeInThread], data_dir: Path, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.retention.loop.LOOK_EVERY_S", 0.1)
    storage = {"data_dir": str(data_dir / "data"), "minimum_free_mb": 0, "keep_days": 1e-6}
    node = make_node(storage=storage, destinations=[pacs.destination()]).start()
    study, failing = new_study_uid(), new_study_uid()
    send(node.port, *(make_instance(study) for _ in range(2)))
    archived = data_dir / "data" / "archive" / study
    wait_until(lambda: len(pacs.received) == 2 and not archived.exists(), "it is delivered and removed")
    (node.controls / "fail").touch()
    send(node.port, *(make_instance(failing) for _ in range(2)))
    wait_until(lambda: node.jobs_are(segmented=1, failed=1), "another one fails")
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
