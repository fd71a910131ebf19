"""Cut the power of a node again and again while it receives, segments and delivers; then count, and print a table.

    python -m tests.end_to_end.walk_with_power_cuts FOLDER [--cuts 20] [--seed 1]

The node is `glionode serve` with its embedded database and the stand-in segmenter. At a cut, everything that was not
synced is lost, the names of files and folders too (see tests/support/power_cut.py), and all processes are killed; then
the node starts again on what is left. The seed decides when: soon after an image was acknowledged, after a job was
segmented or an object was sent, or while the node starts after another cut; at half of the cuts the PACS has taken
nothing since the last one. The exit status is 1 if an acknowledged image or a result was lost, or the PACS got anything
twice with other content.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg
from pydicom import Dataset, dcmread
from pynetdicom import evt

from tests.end_to_end.walk_with_crashes import Scanner, job_states
from tests.support.crash_node import RecordingPacs, RestartingNode
from tests.support.node import new_study_uid
from tests.support.power_cut import CannotCutPower, PowerCut
from tests.support.programs import child_pids
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

SECONDS_A_STUDY = 0.1
PAUSE_S = 0.5
"""Of a scanner between two studies."""
SCANNERS = 2
MOMENTS = ("receive", "segment", "deliver", "start")
START_LIMIT_S = 120.0
LIMIT_AFTER_S = 120.0
"""The time limit for the remaining studies after the last cut."""


@dataclass
class Counts:
    """The counts at the end."""

    cuts: dict[str, int]
    studies: int
    images_acknowledged: int
    acknowledged_lost: int
    """Images that were not in the archive after a cut, or with another content."""
    results_expected: int
    results_at_pacs: int
    results_lost: int
    """Objects that never came to the PACS."""
    dead_deliveries: int
    failed_jobs: int
    open_jobs: int
    results_missing_on_disk: int
    """Results of segmented jobs that are not on the node's disk at the end."""
    duplicates_by_content: int
    """Objects that came again with other content, or of a second analysis of their study."""
    received_twice: int
    """Objects that came again because the response to the first time was lost."""
    longest_start_s: float


@dataclass
class MoodyPacs(RecordingPacs):
    """A PACS that says that it is full when it is told to."""

    full: threading.Event = field(default_factory=threading.Event)
    refused: int = 0

    def _store(self, event: evt.Event) -> int:
        if self.full.is_set():
            self.refused += 1
            return 0xA700
        return super()._store(event)


class Walk:
    """A node in a folder of its own, scanners that send to it, and a PACS."""

    def __init__(self, work: Path, seed: int, stack: ExitStack) -> None:
        self._random = random.Random(seed)
        self.pacs = MoodyPacs()
        data, power = work / "data", work / "power"
        data.mkdir(mode=0o700)
        power.mkdir()
        self.node = RestartingNode(work, False, stack.enter_context(self.pacs.running()), SECONDS_A_STUDY)
        (work / "controls" / "by_start").touch()  # so that a second analysis of a study shows at the PACS
        self.power = PowerCut(data, data / "postgres", power)
        stack.callback(self.node.stop)
        self._archive = data / "archive"
        self._stop = threading.Event()
        self.studies: list[str] = []
        self.longest_start_s = 0.0
        self.start()
        self.scanners = [Scanner(self.node.port, self._new_studies(), seed + number) for number in range(SCANNERS)]
        self.threads = [threading.Thread(target=scanner.run, daemon=True) for scanner in self.scanners]
        for thread in self.threads:
            thread.start()

    def start(self) -> None:
        """Start the node, and wait until it receives."""
        begun = time.monotonic()
        self.node.wait_until_listening()
        self.longest_start_s = max(self.longest_start_s, time.monotonic() - begun)

    def cut(self, moment: str) -> set[str]:
        """Wait for a moment, cut the power, and return the images that it took. The node is left without power."""
        if self._random.random() < 0.5:
            self.pacs.full.set()
        if moment == "start":
            lost = self._cut()
            self._begin_to_start(self._random.uniform(0, 3))
            return lost | self._cut()
        self._wait_for(moment)
        time.sleep(self._random.choice((0.5, 0.5, 5)) * self._random.random())
        return self._cut()

    def acknowledged(self) -> list[Dataset]:
        """Return the images with a success response."""
        return [image for scanner in self.scanners for image in list(scanner.stored)]

    def lost(self, images: list[Dataset]) -> set[str]:
        """Return those of the images that the archive does not hold as they were sent."""
        return {str(image.SOPInstanceUID) for image in images if not self._holds(image)}

    def expected(self) -> set[tuple[str, str]]:
        """Return what the PACS should get once: study and kind of object."""
        return {(study, str(number)) for study in self.studies for number in range(1, len(OUTPUT_CLASSES) + 1)}

    def arrived(self) -> set[tuple[str, str]]:
        """Return what the PACS has of that. The UIDs between study and kind tell analyses apart."""
        parts = (uid.partition(".99.") for uid in list(self.pacs.objects))
        return {(study, of_analysis.rpartition(".")[2]) for study, _, of_analysis in parts}

    def finish_sending(self) -> None:
        """Have the scanners end, with what they have begun."""
        self._stop.set()

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Return the rows of a query; none while the database does not respond."""
        try:
            with psycopg.connect(self.node.url, connect_timeout=5) as connection:
                return connection.execute(sql.encode()).fetchall()
        except psycopg.Error:
            return []

    def _cut(self) -> set[str]:
        acknowledged = self.acknowledged()
        self.power.cut()
        self._kill()
        self.power.restore()
        self.pacs.full.clear()
        return self.lost(acknowledged)

    def _begin_to_start(self, seconds: float) -> None:
        """Start the node and let it come as far as it comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.node.check()
            time.sleep(0.02)

    def _wait_for(self, moment: str) -> None:
        progress: dict[str, Callable[[], object]] = {
            "receive": lambda: sum(len(scanner.stored) for scanner in self.scanners),
            "segment": lambda: self.query("SELECT count(*) FROM glionode_jobs WHERE state = 'segmented'"),
            "deliver": lambda: len(self.pacs.objects) + self.pacs.refused,
        }
        before = progress[moment]()
        deadline = time.monotonic() + START_LIMIT_S
        while progress[moment]() in (before, []):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the node did not {moment} anything for {START_LIMIT_S:.0f} s")
            self.node.check()
            time.sleep(0.02)

    def _kill(self) -> None:
        """Kill the node with all that it has started."""
        found: set[int] = set()
        while new := self._pids() - found:  # until none of them starts another any more
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            found |= new
        for pid in found:
            _signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(_runs(pid) for pid in found):
            for process in self.node.processes:
                process.pids()  # takes note of its end
            if time.monotonic() > deadline:
                raise TimeoutError("processes of the node outlived SIGKILL")
            time.sleep(0.02)

    def _pids(self) -> set[int]:
        waiting = [pid for process in self.node.processes for pid in process.pids()]
        found: set[int] = set()
        while waiting:
            pid = waiting.pop()
            found.add(pid)
            waiting += child_pids(pid)
        return found

    def _holds(self, image: Dataset) -> bool:
        series = self._archive / image.StudyInstanceUID / image.SeriesInstanceUID
        try:
            return bool(dcmread(series / f"{image.SOPInstanceUID}.dcm") == image)
        except (OSError, ValueError, AttributeError):
            return False

    def _new_studies(self) -> Iterator[str]:
        while not self._stop.wait(PAUSE_S):
            self.studies.append(new_study_uid())
            yield self.studies[-1]


def main() -> int:
    """Run the walk, and print the counts as text and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    try:
        counts = walk(options.work, options.cuts, options.seed)
    except CannotCutPower as exc:
        print(f"skipped: {exc}")
        return 0
    for name, value in asdict(counts).items():
        print(f"{name.replace('_', ' '):26}{value if not isinstance(value, float) else round(value, 1)}")
    print(json.dumps(asdict(counts)))
    wrong = (counts.acknowledged_lost, counts.results_lost, counts.dead_deliveries, counts.failed_jobs)
    return 1 if any((*wrong, counts.open_jobs, counts.results_missing_on_disk, counts.duplicates_by_content)) else 0


def walk(work: Path, cuts: int, seed: int) -> Counts:
    """Cut the power of a node that works, wait for the results, and count."""
    chance, done, lost = random.Random(seed), Counter[str](), set[str]()
    with ExitStack() as stack:
        walk = Walk(work, seed, stack)
        for number in range(cuts):
            moment = chance.choice(MOMENTS)
            lost |= walk.cut(moment)
            done[moment] += 1
            print(f"cut {number + 1} of {cuts}: {moment}, {len(walk.pacs.objects)} objects at the PACS", flush=True)
            walk.start()
        walk.finish_sending()
        deadline = time.monotonic() + LIMIT_AFTER_S
        jobs: dict[str, int] = {}
        while time.monotonic() < deadline:
            walk.node.check()
            jobs = job_states(walk.node)
            if (
                not any(thread.is_alive() for thread in walk.threads)
                and walk.arrived() == walk.expected()
                and jobs
                and not jobs.keys() & {"queued", "running"}
            ):
                break
            time.sleep(0.2)
        lost |= walk.lost(walk.acknowledged())
        folders = walk.query("SELECT results_path FROM glionode_jobs WHERE state = 'segmented'")
        dead = walk.query("SELECT 1 FROM glionode_outbox WHERE state = 'dead'")
        missing = sum(not _is_whole(Path(str(folder))) for (folder,) in folders)
    expected, arrived = walk.expected(), walk.arrived()
    return Counts(
        cuts=dict(done),
        studies=len(walk.studies),
        images_acknowledged=len({str(image.SOPInstanceUID) for image in walk.acknowledged()}),
        acknowledged_lost=len(lost),
        results_expected=len(expected),
        results_at_pacs=len(expected & arrived),
        results_lost=len(expected - arrived),
        dead_deliveries=len(dead),
        failed_jobs=jobs.get("failed", 0),
        open_jobs=jobs.get("queued", 0) + jobs.get("running", 0),
        results_missing_on_disk=missing,
        duplicates_by_content=len(walk.pacs.objects) - len(arrived) + walk.pacs.altered,
        received_twice=walk.pacs.repeats,
        longest_start_s=walk.longest_start_s,
    )


def _is_whole(folder: Path) -> bool:
    """Return whether a result folder has all its files, not empty."""
    files = ("report.json", *(f"{number}.dcm" for number in range(1, len(OUTPUT_CLASSES) + 1)))
    return all((folder / name).is_file() and (folder / name).stat().st_size for name in files)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
