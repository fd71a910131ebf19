"""Measure how soon a node with a large archive makes the first job after a restart, and answers commitment requests.

    python -m benchmarks.restart [--studies 900] [--images 250] [--json FILE]

An archive of small files is made, and a reconciler and an index over a database of their own are started as in the
node, without processes around them: first on the archive as an older version left it, with finished jobs and no index,
then once more after that is indexed, then as it is after a crash that lost the rows of the latest study. A new study
that sorts last is complete at each start. Goals: the first job of an indexed archive within a tenth of the time of one
look at all files, and a commitment request for an unknown instance within a tenth of a walk of the archive.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import describe_machine
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import EmbeddedArchive
from plugin.archive.study_inputs import read_inputs
from plugin.commitment.verify import make_report
from plugin.database.embedded_postgres import embedded_url, start_postgres
from plugin.database.pool import Database, open_pool
from plugin.database.schema import migrate
from plugin.dimse.commitment_messages import Reference
from plugin.jobs.archive_index import ArchiveIndex
from plugin.jobs.job import new_job
from plugin.jobs.queue import JobQueue
from plugin.jobs.reconcile import Reconciler
from plugin.settings.sections import StudySettings
from tests.support.node import MR_IMAGE_STORAGE

LONG_AGO = 1.6e9
MODEL = "benchmark"


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=900)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(Path(folder), options.studies, options.images)
    for name, value in seconds.items():
        print(f"{name:<58}{value:10.3f} s")
    if options.json:
        document = {"machine": describe_machine(), "files": options.studies * options.images, "seconds": seconds}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def run(work: Path, studies: int, images: int) -> dict[str, float]:
    """Return the seconds of each measurement by its name."""
    archive = EmbeddedArchive(work / "archive", 0)
    archive.open()
    for number in range(studies):
        make_study(work / "archive" / f"1.2.{number + 1000}", images)
    server = start_postgres(work)
    try:
        with open_pool(embedded_url(work)) as pool:
            migrate(pool)
            database = Database(embedded_url(work), pool, True, None)
            return _measure(archive, database, images)
    finally:
        server.stop()


def _measure(archive: EmbeddedArchive, database: Database, images: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    queue = JobQueue(database)
    for study in archive.studies():
        job = new_job(study, read_inputs(archive, study).sop_instance_uids, MODEL)
        queue.add(job)
    with database.pool.connection() as connection:
        connection.execute("UPDATE glionode_jobs SET state = 'not_eligible', finished_at = now()")
    unknown = [Reference(MR_IMAGE_STORAGE, "1.9.9")]

    def commit() -> object:
        return make_report(archive, "1", unknown)

    last = _first_job(archive, database, "9.1", images, comes_now=False)
    seconds["job of the last study of an archive without an index"] = last
    seconds["job of a study that comes, without an index"] = _first_job(archive, database, "9.2", images)
    seconds["commitment to an unknown instance, without an index"] = _median(commit)
    index = ArchiveIndex(archive, database.pool)
    seconds["indexing an old archive, in the background"] = _until_complete(index)
    _settle(archive, database, index)
    seconds["start with an index: it is complete after"] = _until_complete(ArchiveIndex(archive, database.pool))
    last = _first_job(archive, database, "9.3", images, index, comes_now=False)
    seconds["job of the last study of an archive with an index"] = last
    seconds["start after a crash that lost the rows of a study"] = _until_complete(ArchiveIndex(archive, database.pool))
    archive.index = index
    seconds["commitment to an unknown instance, with an index"] = _median(commit)
    return seconds


def make_study(folder: Path, images: int) -> None:
    """Make a study of small files in one series that came long ago."""
    series = folder / f"{folder.name}.1"
    series.mkdir(parents=True)
    for number in range(images):
        uid = f"{folder.name}.1.{number}"
        head = encode_file_meta(MR_IMAGE_STORAGE, uid, "1.2.840.10008.1.2.1")
        (series / f"{uid}.dcm").write_bytes(head + bytes(200))
    os.utime(series, (LONG_AGO, LONG_AGO))


def _first_job(
    archive: EmbeddedArchive,
    database: Database,
    study: str,
    images: int,
    index: ArchiveIndex | None = None,
    comes_now: bool = True,
) -> float:
    """Return the seconds from the start of a reconciler to the job of a new study, which sorts last.

    It comes while the process runs, or else had come before.
    """
    make_study(archive.data_dir / "archive" / study, images)
    reconciler = Reconciler(archive, JobQueue(database), StudySettings(), MODEL, remembered=index)
    if comes_now:
        reconciler.touch(study)
    begin = time.monotonic()
    while not _has_job(database, study):
        reconciler.poll(time.time(), time.monotonic())
    return time.monotonic() - begin


def _settle(archive: EmbeddedArchive, database: Database, index: ArchiveIndex) -> None:
    """Have all studies remembered as settled, as the first start with an index does beside other work."""
    reconciler = Reconciler(archive, JobQueue(database), StudySettings(), MODEL, remembered=index)
    for _ in range(len(archive.studies()) // 100 + 2):
        reconciler.poll(time.time(), time.monotonic())


def _has_job(database: Database, study: str) -> bool:
    with database.pool.connection() as connection:
        row = connection.execute("SELECT 1 FROM glionode_jobs WHERE study_instance_uid = %s", (study,)).fetchone()
    return row is not None


def _until_complete(index: ArchiveIndex) -> float:
    """Start an index and return the seconds until it is complete."""
    stop, begin = threading.Event(), time.monotonic()
    thread = threading.Thread(target=index.run, args=(stop,))
    thread.start()
    while index.find([]) is None:
        time.sleep(0.001)
    seconds = time.monotonic() - begin
    stop.set()
    thread.join()
    return seconds


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        begin = time.monotonic()
        call()
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
