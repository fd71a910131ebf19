"""Measure a worker on queues of several lengths: seconds a study and peak memory, which should not grow with the queue.

    python -m benchmarks.queue [--counts 1 10 30] [--heads 6] [--small] [--json FILE]

A whole node runs as it does on a site: `glionode listen`, `work` and `deliver` in processes of their own, PostgreSQL,
the bundled model, and a PACS that takes the results. The worker starts when all studies of a count are received and
queued. Up to `--heads` of them are whole studies, one phantom under new UIDs (with `--small`: a coarse head and a tiny
network, for which the node's own part weighs more): half of them first in the queue, where all others wait behind them,
half last, when the worker has done all others. The others are of one small image each, which the worker takes from the
queue, reads and finds not eligible; so they cost what a study costs beside its images, and thousands of them fit on a
disk. What grows with the queue (taking a job, comparing studies with jobs, sending) makes the first heads of a long
queue slower than those of a short one; what grows with the work done (a leak, a growing table) makes the last ones
slower than the first, and the peak higher. "Node" is the time between two results without the pipeline's own total.

Run it as a module: as a script, its folder would hide Python's own `queue`.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from benchmarks.machine import describe_machine
from benchmarks.studies import copies, read_images, write_small_model, write_study
from plugin.database.embedded_postgres import start_postgres
from tests.support.node import make_instance, new_study_uid, send
from tests.support.programs import GLIONODE, child_pids, clear_settings, free_port, listens, memory_mib, running

Connection = psycopg.Connection[Any]
LIMIT_S = 3600.0
TO_SEND: LiteralString = "SELECT count(*) FROM glionode_outbox WHERE state IN ('queued', 'failed')"
RESULTS = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)


@dataclass(frozen=True)
class Part:
    """Studies that were processed one after the other."""

    studies: int
    seconds_a_study: float
    node_s: float
    """Of `seconds_a_study`, beside the pipeline."""


@dataclass(frozen=True)
class Result:
    """The measurements of one queue."""

    count: int
    first: Part
    small: Part | None
    """The studies of one image."""
    last: Part | None
    peak_first_mib: float
    """The worker's peak memory until the last of the first heads was done."""
    peak_mib: float
    """The worker's peak memory."""


@dataclass(frozen=True)
class Done:
    """A job in the order of the results."""

    study: str
    started: float
    finished: float
    pipeline_s: float
    state: str


def main() -> None:
    """Measure all counts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 10, 30])
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clear_settings()
    print(f"{'queued':>8}{'':>10}{'studies':>9}{'s a study':>11}{'node s':>8}{'peak MiB':>10}")
    results = []
    with tempfile.TemporaryDirectory(prefix="glionode-queue-") as folder:
        head = write_study(Path(folder) / "head", options.small)
        for count in options.counts:
            work = Path(folder) / str(count)
            work.mkdir()
            result = measure(work, head, count, options.heads, options.small, options.device)
            results.append(result)
            print_rows(result)
    if options.json:
        document = {"machine": describe_machine(), "queues": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def measure(work: Path, head: Path, count: int, heads: int, small: bool, device: str) -> Result:
    """Queue `count` studies, start a worker, and measure until all are done and sent."""
    first = min(count, -(-heads // 2))
    last = min(count - first, heads // 2)
    images = read_images(head)
    with ExitStack() as stack:
        database = start_postgres(work / "database")
        stack.callback(database.stop)
        port = free_port()
        settings = write_settings(work, database.url, port, stack.enter_context(receiving_pacs()), small, device)
        stack.enter_context(running(service("listen", settings), work / "listen.log"))
        wait_until(lambda: listens(port))
        connection = stack.enter_context(psycopg.connect(database.url, autocommit=True))
        # Jobs are taken in the order in which they were queued.
        send_heads(port, images, range(first), connection)
        for _ in range(count - first - last):
            send(port, make_instance(new_study_uid()))
        wait_until(lambda: queued(connection) >= count - last)
        send_heads(port, images, range(first, first + last), connection)
        worker = stack.enter_context(running(service("work", settings), work / "work.log"))
        stack.enter_context(running(service("deliver", settings), work / "deliver.log"))
        peaks: list[tuple[float, float]] = []
        stack.enter_context(watching(worker.pid, peaks))
        wait_until(lambda: finished(connection) >= count)
        wait_until(lambda: count_of(connection, TO_SEND) == 0)
        jobs = read_jobs(connection)
    return evaluate(jobs, first, last, peaks)


@contextmanager
def receiving_pacs() -> Iterator[int]:
    """Receive results during the block, and forget them; yields the port."""
    ae = AE("PACS")
    for sop_class in RESULTS:
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def service(name: str, settings: Path) -> list[str]:
    """Return the command of a service."""
    return [*GLIONODE, name, "--config", str(settings)]


def write_settings(work: Path, url: str, port: int, pacs_port: int, small: bool, device: str) -> Path:
    """Write the node's settings file."""
    model = f"name = {write_small_model(work / 'models')!r}\n" if small else ""
    settings = work / "glionode.toml"
    settings.write_text(
        f"""
[listener]
port = {port}
[storage]
data_dir = {json.dumps(str(work / "data"))}
minimum_free_mb = 10
[study]
stable_after_s = 0.5
[model]
{model}installed_dir = {json.dumps(str(work / "models"))}
[compute]
device = {json.dumps(device)}
[database]
url = {json.dumps(url)}
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
accepts_demonstration = true
"""
    )
    return settings


def send_heads(port: int, images: dict[str, Dataset], numbers: range, connection: Connection) -> None:
    """Send copies of the whole study, and wait for the job of each before the next one."""
    for number in numbers:
        before = queued(connection)
        send(port, *copies(images, number).values())
        wait_until(lambda before=before: queued(connection) > before)  # type: ignore[misc]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; raise TimeoutError after an hour."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:.0f} s")
        time.sleep(0.1)


def queued(connection: Connection) -> int:
    """Return how many studies have a job."""
    return count_of(connection, "SELECT count(DISTINCT study_instance_uid) FROM glionode_jobs")


def finished(connection: Connection) -> int:
    """Return how many jobs are done."""
    return count_of(connection, "SELECT count(*) FROM glionode_jobs WHERE finished_at IS NOT NULL")


def count_of(connection: Connection, statement: LiteralString) -> int:
    """Return the one number that a statement gives."""
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def watching(pid: int, peaks: list[tuple[float, float]]) -> Iterator[None]:
    """Add time and peak memory (MiB) of the largest process of the worker to `peaks` several times a second."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            of_worker = (memory_mib(each, "VmHWM") for each in (pid, *child_pids(pid)))
            peaks.append((time.time(), max(of_worker)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_jobs(connection: Connection) -> list[Done]:
    """Return the jobs in the order in which they were done."""
    rows = connection.execute(
        "SELECT study_instance_uid, extract(epoch FROM started_at), extract(epoch FROM finished_at), state,"
        " results_path FROM glionode_jobs ORDER BY finished_at"
    ).fetchall()
    done = []
    for study, started, ended, state, folder in rows:
        report = json.loads((Path(folder) / "report.json").read_text()) if folder else {"timings_s": {}}
        done.append(Done(study, float(started), float(ended), report["timings_s"].get("total", 0.0), state))
    return done


def evaluate(jobs: Sequence[Done], first: int, last: int, peaks: Sequence[tuple[float, float]]) -> Result:
    """Return the measurements. Raises RuntimeError where a head was not segmented or the order is another one."""
    heads = {number for number, job in enumerate(jobs) if job.state == "segmented"}
    expected = {*range(first), *range(len(jobs) - last, len(jobs))}
    if heads != expected:
        raise RuntimeError(f"the heads are the results {sorted(heads)}, not {sorted(expected)}: {set(jobs)}")
    intervals = [
        job.finished - (jobs[number - 1].finished if number else job.started) for number, job in enumerate(jobs)
    ]

    def part(begin: int, end: int) -> Part | None:
        if begin >= end:
            return None
        node = [interval - job.pipeline_s for interval, job in zip(intervals[begin:end], jobs[begin:end], strict=True)]
        return Part(end - begin, statistics.median(intervals[begin:end]), statistics.median(node))

    of_first, small_end = part(0, first), len(jobs) - last
    assert of_first is not None
    peak_first = max((mib for at, mib in peaks if at <= jobs[first - 1].finished), default=0.0)
    peak = max((mib for _, mib in peaks), default=0.0)
    return Result(len(jobs), of_first, part(first, small_end), part(small_end, len(jobs)), peak_first, peak)


def print_rows(result: Result) -> None:
    """Print a row for each part of a queue."""
    parts = (
        ("first", result.first, f"{result.peak_first_mib:.0f}"),
        ("small", result.small, ""),
        ("last", result.last, f"{result.peak_mib:.0f}"),
    )
    for name, part, peak in parts:
        if part is not None:
            times = f"{part.seconds_a_study:>11.3f}{part.node_s:>8.3f}"
            print(f"{result.count:>8}{name:>10}{part.studies:>9}{times}{peak:>10}", flush=True)


if __name__ == "__main__":
    main()
