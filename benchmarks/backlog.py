"""Measure the node's overhead for each of many queued studies, and whether its memory grows with their number.

    python -m benchmarks.backlog [--studies 50] [--json FILE]

A whole node runs in a process of its own, with its embedded database, and sends to a PACS. The pipeline's own time is
left out: the stand-in segmenter (tests/support/stand_in_segmenter.py) writes two small objects for each study of three
images. It waits in the first job until all studies are queued. The time of a study is the time between the arrival of
its results at the PACS and that of the study before. Memory is the sum of the resident sets of the node, its worker and
its database, so that shared memory counts in each of them. Goal: memory stays flat.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg

from benchmarks.machine import describe_machine
from tests.end_to_end.walk_with_crashes import IMAGES
from tests.support.crash_node import RecordingPacs, RestartingNode
from tests.support.node import make_instance, new_study_uid, send
from tests.support.programs import child_pids, memory_mib
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

TENTHS = 5


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory_mib = run(Path(folder), options.studies)
    step = -(-options.studies // TENTHS)
    print(f"{'studies':>12}{'s a study':>12}{'longest s':>12}{'peak MiB':>12}")
    for start in range(0, options.studies, step):
        part, peaks = seconds[start : start + step], memory_mib[start : start + step]
        name = f"{start + 1}-{start + len(part)}"
        print(f"{name:>12}{statistics.mean(part):12.3f}{max(part):12.3f}{max(peaks):12.0f}")
    total = f"{sum(seconds):.1f} s for {options.studies} studies"
    print(f"{total}, {sum(seconds) / options.studies:.3f} s each; without the pipeline's own time")
    if options.json:
        document = {"machine": describe_machine(), "seconds": seconds, "memory_mib": memory_mib}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def run(work: Path, studies: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each study, in the order of the results, and the node's peak memory during each, in MiB."""
    pacs = RecordingPacs()
    with ExitStack() as stack:
        node = RestartingNode(work, False, stack.enter_context(pacs.running()), seconds_a_study=0.0)
        stack.callback(node.stop)
        (work / "controls" / "hold").touch()
        node.wait_until_listening()
        for _ in range(studies):
            study = new_study_uid()
            send(node.port, *(make_instance(study, number=number) for number in range(1, IMAGES + 1)))
        wait_until_queued(node, studies)
        memory: list[tuple[float, float]] = []
        ended = threading.Event()
        watch = threading.Thread(target=watch_memory, args=(node, memory, ended))
        watch.start()
        started = time.monotonic()
        (work / "controls" / "hold").unlink()
        while len(pacs.times) < studies * len(OUTPUT_CLASSES):
            time.sleep(0.05)
        ended.set()
        watch.join()
    arrivals = sorted(pacs.times.values())[len(OUTPUT_CLASSES) - 1 :: len(OUTPUT_CLASSES)]
    seconds = [later - sooner for sooner, later in zip([started, *arrivals], arrivals, strict=False)]
    peaks = [
        max((mib for at, mib in memory if sooner - 1 <= at <= later), default=0.0)
        for sooner, later in zip([started, *arrivals], arrivals, strict=False)
    ]
    return seconds, peaks


def wait_until_queued(node: RestartingNode, studies: int) -> None:
    """Wait until each study has a job."""
    with psycopg.connect(node.url, autocommit=True) as connection:
        while True:
            row = connection.execute("SELECT count(DISTINCT study_instance_uid) FROM glionode_jobs").fetchone()
            if row is not None and row[0] == studies:
                return
            time.sleep(0.1)


def watch_memory(node: RestartingNode, memory: list[tuple[float, float]], ended: threading.Event) -> None:
    """Measure the memory a few times a second until `ended` is set."""
    while not ended.wait(0.2):
        pids = [pid for process in node.processes for pid in process.pids()]
        for pid in list(pids):
            pids += child_pids(pid)
        memory.append((time.monotonic(), sum(memory_mib(pid, "VmRSS") for pid in set(pids))))


if __name__ == "__main__":
    main()
