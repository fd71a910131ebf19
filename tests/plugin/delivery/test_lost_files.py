"""A file of a result that is missing or damaged when it is to be sent, and when the node starts."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from models.package import IntendedUse
from plugin.archive.report_reader import REPORT_FILE
from plugin.database.pool import Connection, Database
from plugin.delivery.deliverer import Deliverer
from plugin.delivery.result_check import ResultCheck
from plugin.delivery.result_source import DiskResults
from plugin.http.transfer import sha256_of
from plugin.jobs import outbox
from plugin.jobs.job import Finished, Job, new_job
from plugin.jobs.outbox import OutgoingObject
from plugin.jobs.queue import JobQueue
from plugin.settings.destinations import DestinationSettings
from tests.support.delivery import QUICK
from tests.support.node import finish_job, make_instance, new_study_uid, query, wait_until, write_instance

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"),
}


class Result:
    """The result of a job, with one object, on its way to a PACS."""

    def __init__(self, queue: JobQueue, database: Database, root: Path, pacs: DestinationSettings) -> None:
        self.queue, self.database, self.pacs = queue, database, pacs
        self.job: Job = new_job(new_study_uid(), ["1.1"], "m")
        self.instance = make_instance(self.job.study_instance_uid, sop_class=SEG)
        self.folders = [root / self.job.study_instance_uid / name for name in ("a", "b")]
        finish_job(queue, self.job, Finished("segmented", None), self.folders[0], self.write(0))
        self.path = next(self.folders[0].glob("*.dcm"))
        """The file of the object, of the first run."""

    def write(self, number: int) -> Callable[[Connection], None]:
        """Write the files, and return what puts them into the outbox."""
        folder = self.folders[number]
        path = write_instance(self.instance, folder)
        (folder / REPORT_FILE).write_text(
            f'{{"study_instance_uid": "{self.job.study_instance_uid}", "roles": {{}}, "outputs": [{{"path": '
            f'"{path.name}", "sop_class_uid": "{SEG}"}}]}}'
        )
        made = OutgoingObject(self.instance.SOPInstanceUID, path, sha256_of(path).hex())
        return lambda connection: outbox.put(connection, self.job.key, [made], (self.pacs,), IntendedUse.RESEARCH)

    @property
    def state(self) -> str:
        found = self.queue.find(self.job.key)
        assert found is not None
        return found.state

    def run_again(self) -> None:
        started = self.queue.start(self.job.key)
        assert started is not None
        self.queue.finish(started, Finished("segmented", None), str(self.folders[1]), self.write(1))


@pytest.fixture
def pacs() -> Iterator[DestinationSettings]:
    ae = AE("PACS")
    ae.add_supported_context(SEG)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)])
    yield DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])
    server.shutdown()


@pytest.fixture
def result(queue: JobQueue, database: Database, tmp_path: Path, pacs: DestinationSettings) -> Result:
    return Result(queue, database, tmp_path / "results", pacs)


@pytest.mark.parametrize("damage", DAMAGES)
def test_its_job_runs_again_and_then_it_is_sent(
    damage: str, result: Result, database: Database, queue: JobQueue, pacs: DestinationSettings
) -> None:
    DAMAGES[damage](result.path)
    stop = threading.Event()
    deliverer = Deliverer(database.url, pacs, "NODE", QUICK, put_back=queue.put_back)
    thread = threading.Thread(target=deliverer.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: result.state == "queued", "the job runs again")
        assert query(database, "SELECT state, attempts FROM glionode_outbox") == [("queued", 0)]
        result.run_again()
        wait_until(lambda: query(database, "SELECT state FROM glionode_outbox") == [("sent",)], "it is sent")
    finally:
        stop.set()
        thread.join()
    assert query(database, "SELECT path FROM glionode_outbox") == [(str(result.path).replace("/a/", "/b/"),)]


def check(result: Result) -> None:
    ResultCheck(result.database.pool, result.queue).run(threading.Event())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["object", REPORT_FILE])
@pytest.mark.parametrize("state", ["queued", "failed", "held"])
def test_a_result_that_waits_is_checked_at_the_start(damage: str, file: str, state: str, result: Result) -> None:
    query(result.database, "UPDATE glionode_outbox SET state = %s, next_try = now() + interval '1 day'", state)
    check(result)
    assert result.state == "segmented", "it is whole"
    DAMAGES[damage](result.path if file == "object" else result.folders[0] / REPORT_FILE)
    check(result)
    assert result.state == "queued"


def test_a_result_without_destinations_is_checked_at_the_start(result: Result) -> None:
    query(result.database, "DELETE FROM glionode_outbox")
    result.path.unlink()
    check(result)
    assert result.state == "queued"


def test_what_all_have_what_is_old_and_what_was_purged_is_not_checked(result: Result) -> None:
    result.path.unlink()
    for change, undo in (
        ("UPDATE glionode_outbox SET state = 'sent'", "UPDATE glionode_outbox SET state = 'queued'"),
        ("UPDATE glionode_jobs SET purged_at = now()", "UPDATE glionode_jobs SET purged_at = NULL"),
    ):
        query(result.database, change)
        check(result)
        assert result.state == "segmented"
        query(result.database, undo)
    finish_job(result.queue, new_job(new_study_uid(), ["1.1"], "m"), Finished("failed", "-"))
    query(
        result.database,
        "UPDATE glionode_jobs SET finished_at = now() - interval '2 hours' WHERE key = %s",
        result.job.key,
    )
    check(result)
    assert result.state == "segmented"


def test_a_disk_that_is_not_mounted_has_lost_nothing(result: Result, tmp_path: Path) -> None:
    (tmp_path / "results").rename(tmp_path / "unmounted")
    check(result)
    with result.database.pool.connection() as connection:
        due = outbox.due(connection, "pacs", 9)
    results = DiskResults()
    assert len(due) == 1
    assert results.fetch(due) == ()
    (tmp_path / "unmounted").rename(tmp_path / "results")
    assert results.fetch(due) == due
    assert result.state == "segmented"
