"""Images that arrive after their study was segmented lead to a new result, or the earlier one stays current."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_seg.uids import images_sha256
from pipeline.choose import Choice, Selected
from pipeline.result import SourceSeries
from pipeline.scan import scan
from pipeline.volume import Frame
from plugin.archive.report import Status
from plugin.archive.report_reader import ReadReport, read_report
from plugin.database.pool import Database
from plugin.jobs.job import Finished, Job, new_job
from plugin.jobs.prior_results import PriorResults, record_for_later_jobs
from plugin.jobs.queue import JobQueue
from plugin.settings.sections import Settings
from plugin.worker.context import open_worker_context
from plugin.worker.process_study import process_study
from plugin.worker.stopwatch import Stopwatch
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    finish_job,
    make_instance,
    new_study_uid,
    run,
    send,
    wait_until,
    write_instance,
)


def test_images_that_are_not_used_leave_the_result_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = open_worker_context(Settings(), device="cpu")
    write_instance(make_instance(new_study_uid()), tmp_path / "in")
    (study,) = scan([tmp_path / "in"]).studies
    series = study.series[0]
    choices = tuple(Choice(role, series, ("the test says so",)) for role in context.wanted.roles)
    frames = (Frame("1.2.840.10008.5.1.4.1.1.4", series.instances[0].sop_instance_uid, 1),)
    volume = SimpleNamespace(geometry=None, frames=frames, notes=(), remarks=())
    monkeypatch.setattr("plugin.worker.candidate_series.choose", lambda *_: Selected(choices))
    monkeypatch.setattr("plugin.worker.process_study.read_volume", lambda *_: volume)
    sources = [SourceSeries(each.role, series, None, frames, each.why) for each in choices]  # type: ignore[arg-type]
    prior_results = PriorResults(datetime.now(UTC), current_results={images_sha256(sources): "the first job"})
    report = process_study(study, context, tmp_path / "out", Stopwatch(), prior_results)
    assert report.status is Status.UNCHANGED
    assert "job the first job stands" in (report.reason or "")
    assert {step.step for step in report.timings} == {"choose", "read", "total"}, "nothing is computed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    assert read_report(tmp_path / "out").same_as == "the first job"
    other = PriorResults(datetime.now(UTC), current_results={images_sha256(sources[:1]): "another job"})
    with pytest.raises(AttributeError, match=r"object has no attribute"):  # it continues and computes
        process_study(study, context, tmp_path / "other", Stopwatch(), other)


def test_superseded_and_unchanged_jobs_are_shown(database: Database, data_dir: Path) -> None:
    from plugin.jobs.queries import show_job

    queue, study = JobQueue(database), new_study_uid()
    jobs = [new_job(study, map(str, range(count)), "m", urgent=count == 2) for count in (1, 2, 3)]

    def done(job: Job, status: str, report: ReadReport) -> None:
        finish_job(
            queue,
            job,
            Finished(status, None),
            also=lambda connection: record_for_later_jobs(connection, job.key, report),
        )

    done(jobs[0], "segmented", ReadReport(images_sha256="a"))
    done(jobs[1], "unchanged", ReadReport(same_as=jobs[0].key))
    done(jobs[2], "segmented", ReadReport(images_sha256="b"))
    with database.pool.connection() as connection:
        shown = [show_job(connection, job.key) for job in jobs]
    assert [each.job.superseded_by for each in shown] == [jobs[2].key, jobs[2].key, None]
    assert [each.job.same_as for each in shown] == [None, jobs[0].key, None]
    assert [each.supersedes for each in shown] == [(), (), (jobs[0].key, jobs[1].key)]
    assert [each.job.urgent for each in shown] == [False, True, False]


def test_a_late_image_after_a_purge_is_not_eligible_and_the_reason_mentions_the_purge(
    make_node: Callable[..., NodeInThread], pacs: Pacs, data_dir: Path
) -> None:
    node = make_node(destinations=[pacs.destination()]).start()
    study = new_study_uid()
    whole = [make_instance(study, number=number) for number in range(1, 4)]
    send(node.port, *whole)
    wait_until(lambda: len(pacs.received) == 2, "the results are delivered")
    wait_until(lambda: node.status().destinations[0].objects == {"sent": 2}, "the outbox says so")
    config = config_of(node, data_dir)
    status, said = run(config, "purge", study)
    assert status == 0, said
    send(node.port, make_instance(study, number=4))
    wait_until(lambda: node.jobs_are(segmented=1, not_eligible=1), "the late image alone is not eligible")
    status, said = run(config, "jobs", "--json")
    late, first = json.loads(said)
    assert "There is no ADC map. Earlier images of the study were purged on " in late["reason"]
    assert "send the whole study again" in late["reason"]
    assert first["superseded_by"] is None, "what was delivered stands"
    assert len(pacs.received) == 2
    # The whole study once more is known; with the late image it is segmented anew.
    send(node.port, *whole)
    wait_until(lambda: node.jobs_are(segmented=2, not_eligible=1), "all of it is eligible")
    status, said = run(config, "show", study)
    assert f"Supersedes: {first['key']}" in said
    assert f"Supersedes: {late['key']}" in said
