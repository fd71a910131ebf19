"""An empty result that the settings hold back is sent when a person releases it."""

import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.database.audit_log import read_entries
from plugin.database.pool import Database, running_database
from plugin.database.schema import migrate
from plugin.jobs import outbox, study_deliveries
from plugin.jobs.job import new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.prior_results import PriorResults
from plugin.jobs.queries import show_job
from plugin.jobs.queue import JobQueue
from plugin.node.operations import OperationRefused, release_job, retry_all
from plugin.settings.destinations import DestinationSettings
from plugin.settings.sections import Settings
from plugin.worker.job_runner import JobRunner, OnStep, StudyOutcome, WorkerTrouble
from plugin.worker.progress_pipe import ProgressWriter
from tests.plugin.worker.test_job_runner import UIDS, FailingSource
from tests.support.node import make_instance, new_study_uid, run, write_instance

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


@pytest.mark.parametrize(
    ("hold_empty", "kind", "state"),
    [(True, "empty", "held"), (True, "coverage", "queued"), (False, "empty", "queued")],
)
def test_an_empty_result_waits_where_the_settings_say_so(
    hold_empty: bool, kind: str, state: str, queue: JobQueue, database: Database, tmp_path: Path
) -> None:
    study = new_study_uid()

    def segment(files: Sequence[Path], out: Path, prior: PriorResults, on_step: OnStep) -> StudyOutcome:
        on_step("segment")
        out.mkdir()
        path = write_instance(make_instance(study), out)
        remarks = [{"kind": kind, "text": "The test says so.", "roles": []}]
        (out / "report.json").write_text(json.dumps({"roles": {}, "outputs": [], "remarks": remarks}))
        return StudyOutcome("segmented", None, (path,))

    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        runner = JobRunner(
            settings=Settings(delivery={"hold_empty": hold_empty}, destinations=(PACS.model_dump(),)),
            source=FailingSource(tmp_path),
            queue=queue,
            trouble=WorkerTrouble(database.pool, "worker on a host"),
            intended_use=IntendedUse.RESEARCH,
            segment=segment,
            progress=ProgressWriter(writer),
        )
        job = new_job(study, UIDS, "model")
        queue.add(job)
        runner.run(job.key)
    with database.pool.connection() as connection:
        assert show_job(connection, study).job.objects == {state: 1}
        assert len(outbox.due(connection, "pacs", 9)) == (state == "queued")


def test_what_is_held_is_sent_after_its_release_alone(queue: JobQueue, database: Database) -> None:
    job = new_job(new_study_uid(), ["1"], "m")
    queue.add(job)
    key = job.key
    with database.pool.connection() as connection:
        made = [OutgoingObject("1.9", Path("x"))]
        outbox.put(connection, key, made, (PACS,), IntendedUse.RESEARCH, hold=True)
        outbox.put(connection, key, made, (PACS,), IntendedUse.RESEARCH, hold=True)  # the study is taken once more
        assert outbox.due(connection, "pacs", 9) == ()
    retry_all(database, failed=True, dead=True)
    with database.pool.connection() as connection:
        assert outbox.due(connection, "pacs", 9) == ()
        assert study_deliveries.delivered(connection, key, ["pacs"]) == ()
        (output,) = show_job(connection, key).outputs
        assert output.deliveries[0].state == "held"
        assert "glionode release" in str(output.deliveries[0].last_error)
    assert release_job(database, key) == (key, 1)
    with database.pool.connection() as connection:
        assert [entry.sop_instance_uid for entry in outbox.due(connection, "pacs", 9)] == ["1.9"]
        study = show_job(connection, key).job.study_instance_uid
        assert "released, 1 deliveries" in [each.detail for each in read_entries(connection, key, study)]
    with pytest.raises(OperationRefused, match="No delivery of job"):
        release_job(database, key)


def test_the_command_releases_without_a_running_node(data_dir: Path) -> None:
    config = data_dir / "glionode.toml"
    config.write_text(f'[storage]\ndata_dir = "{data_dir / "data"}"\n')
    job = new_job(new_study_uid(), ["1"], "m")
    with running_database(Settings(storage={"data_dir": str(data_dir / "data")})) as database:
        migrate(database.pool, alone=True)
        JobQueue(database).add(job)
        with database.pool.connection() as connection:
            made = [OutgoingObject("1.9", Path("x"))]
            outbox.put(connection, job.key, made, (PACS,), IntendedUse.RESEARCH, hold=True)
    assert run(config, "release", job.study_instance_uid) == (0, f"Released: {job.key}, 1 deliveries\n")
    status, _ = run(config, "release", job.key)
    assert status == 1
