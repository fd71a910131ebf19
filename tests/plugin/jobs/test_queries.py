"""Jobs as `glionode jobs` and `glionode show` print them, from a real database and without a running node."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from models.package import IntendedUse
from plugin.database.pool import Database, running_database
from plugin.database.schema import migrate
from plugin.jobs import outbox
from plugin.jobs.job import Finished, Job, JobState, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queries import (
    NoSuchJob,
    count_deliveries_by_state,
    count_jobs_by_state,
    count_urgent_jobs,
    find_job_key,
    list_jobs,
    show_job,
)
from plugin.jobs.queue import JobQueue
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from tests.support.node import MARKER, finish_job, new_study_uid, run

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


def segmented(queue: JobQueue, study: str, folder: Path) -> Job:
    """Add a segmented job with two objects; its report names a third one that is not sent anywhere."""
    job = new_job(study, ["1", "2", "3"], "m")
    folder.mkdir()
    series = {"series_instance_uid": "1.7", "series_description": f"{MARKER} t1", "why": [f"{MARKER}"]}
    written = [{"path": f"{number}.dcm", "sop_class_uid": f"1.{number}"} for number in (1, 2, 3)]
    remarks = [{"kind": "coverage", "text": "The top 40 mm were not seen.", "roles": ["ADC"]}]
    report = {"roles": {"T1CE": series}, "outputs": written, "remarks": remarks}
    (folder / "report.json").write_text(json.dumps(report))

    def also(connection: psycopg.Connection[Any]) -> None:
        objects = [OutgoingObject(f"{study}.9{number}", folder / f"{number}.dcm") for number in (1, 2)]
        outbox.put(connection, job.key, objects, (PACS,), IntendedUse.RESEARCH)
        outbox.record_sent(connection, "pacs", f"{study}.91", None)

    finish_job(queue, job, Finished("segmented", None), folder, also)
    return job


def test_the_newest_job_comes_first_and_a_state_can_be_selected(database: Database, queue: JobQueue) -> None:
    first, second = (new_job(new_study_uid(), ["1"], "m") for _ in range(2))
    queue.add(first)
    queue.add(second)
    queue.add_finished(new_job(new_study_uid(), ["1"], "m"), JobState.NOT_ELIGIBLE, "no ADC")
    with database.pool.connection() as connection:
        assert [line.key for line in list_jobs(connection, JobState.QUEUED, 0)] == [second.key, first.key]
        (newest,) = list_jobs(connection, None, 1)
    assert (newest.state, newest.reason, newest.image_count) == ("not_eligible", "no ADC", 1)


def test_a_job_is_found_by_key_study_and_unique_beginning(database: Database, queue: JobQueue) -> None:
    study, other = "1.2.3", "1.2.34"
    old, new = new_job(study, ["1"], "m"), new_job(study, ["1", "2"], "m")
    queue.add(old)
    queue.add(new)
    queue.add(new_job(other, ["1"], "m"))
    with database.pool.connection() as connection:
        assert find_job_key(connection, old.key) == old.key
        assert find_job_key(connection, study) == new.key, "its newest"
        assert find_job_key(connection, other[:-1] + "4-") == new_job(other, ["1"], "m").key
        with pytest.raises(NoSuchJob, match="3 jobs begin with"):
            find_job_key(connection, "1.2")
        for unknown in ("9.9", "", "%", "1_2"):
            with pytest.raises(NoSuchJob, match="There is no job"):
                find_job_key(connection, unknown)


def test_a_job_is_shown_without_header_text(database: Database, queue: JobQueue, tmp_path: Path) -> None:
    study = new_study_uid()
    job = segmented(queue, study, tmp_path / "results")
    with database.pool.connection() as connection:
        found = show_job(connection, study)
    assert (found.job.key, found.job.attempts, found.job.image_count) == (job.key, 1, 3)
    assert found.job.objects == {"queued": 1, "sent": 1}
    assert [(each.role, each.series_instance_uid) for each in found.chosen] == [("T1CE", "1.7")]
    assert [(each.file, each.sop_class_uid, each.sop_instance_uid) for each in found.outputs] == [
        ("1.dcm", "1.1", f"{study}.91"),
        ("2.dcm", "1.2", f"{study}.92"),
        ("3.dcm", "1.3", None),
    ]
    assert [[each.state for each in output.deliveries] for output in found.outputs] == [["sent"], ["queued"], []]
    assert MARKER not in json.dumps(asdict(found))


def test_jobs_and_deliveries_are_counted_by_state(database: Database, queue: JobQueue, tmp_path: Path) -> None:
    segmented(queue, new_study_uid(), tmp_path / "results")
    for number, urgent in enumerate((True, False, False)):
        queue.add(new_job(new_study_uid(), [str(number)], "m", urgent))
    with database.pool.connection() as connection:
        counts = count_jobs_by_state(connection)
        assert counts == {**dict.fromkeys(map(str, JobState), 0), "queued": 3, "segmented": 1}
        assert count_urgent_jobs(connection) == 1
        assert count_deliveries_by_state(connection) == {"pacs": {"queued": 1, "sent": 1}}


def test_a_damaged_report_is_not_an_error(database: Database, queue: JobQueue, tmp_path: Path) -> None:
    study = new_study_uid()
    segmented(queue, study, tmp_path / "results")
    (tmp_path / "results" / "report.json").write_text('{"roles": []')
    with database.pool.connection() as connection:
        found = show_job(connection, study)
    assert found.chosen == ()
    assert [each.sop_class_uid for each in found.outputs] == [None, None]


def test_the_commands_work_without_a_running_node(data_dir: Path) -> None:
    config = data_dir / "glionode.toml"
    config.write_text(f'[storage]\ndata_dir = "{data_dir / "data"}"\n')
    status, text = run(config, "jobs")
    assert (status, "No node has run" in text) == (1, True)
    study = new_study_uid()
    with running_database(Settings(storage={"data_dir": str(data_dir / "data")})) as database:
        migrate(database.pool, alone=True)
        job = segmented(JobQueue(database), study, data_dir / "results")
    status, text = run(config, "jobs", "--json")
    assert (status, [each["key"] for each in json.loads(text)]) == (0, [job.key])
    assert run(config, "jobs", "--state", "failed", "--json") == (0, "[]\n")
    status, text = run(config, "jobs")
    assert (status, job.key in text, "1 queued, 1 sent" in text) == (0, True, True)
    status, text = run(config, "show", study)
    assert (status, "T1CE: series 1.7" in text, f"{study}.92" in text, MARKER in text) == (0, True, True, False)
    assert "Remark: The top 40 mm were not seen.\n" in text
    assert json.loads(run(config, "show", study, "--json")[1])["job"]["state"] == "segmented"
    assert run(config, "show", "9.9")[0] == 64
