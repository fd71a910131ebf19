"""Send studies to a node whose processes are killed again and again; then count what the PACS has, and print a table.

    python -m tests.end_to_end.walk_with_crashes FOLDER [--studies 200] [--kills 60] [--seed 1] [--every 3] [--parts]

Without --parts the node is one `glionode serve` with its embedded database. With --parts it is a `listen`, two `work`,
a `deliver` and a PostgreSQL server. The seed decides which process is killed when; a killed process is restarted after
a moment, as systemd does. A tenth of the images is sent twice, and a sender repeats what got no success response. The
stand-in segmenter writes two objects for each study, with UIDs derived from the study's. The exit status is 1 if
anything was lost, altered or stuck.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from plugin.dimse.pynetdicom_internals import ApplicationEntity
from tests.support.crash_node import RecordingPacs, RestartingNode
from tests.support.node import MR_IMAGE_STORAGE, make_instance, new_study_uid
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

IMAGES = 3
SECONDS_A_STUDY = 0.3
"""How long the stand-in segmenter takes, so that workers are killed during a job."""
SENDERS = 4
LIMIT_AFTER_S = 180.0
"""The time limit for the remaining studies after the last kill."""


@dataclass
class Counts:
    """The counts at the end."""

    studies: int
    kills: dict[str, int]
    images_acknowledged: int
    images_sent_again: int
    results_expected: int
    results_at_pacs: int
    lost: int
    altered: int
    duplicated: int
    """Objects at the PACS that are not expected."""
    received_twice: int
    """Objects that arrived again because the response to the first time was lost."""
    stuck_jobs: int
    parked_jobs: int
    slowest_study_s: float
    """From the response to its last image to its last result at the PACS."""
    longest_silence_s: float
    """The longest time between two results at the PACS."""


class Scanner:
    """Sends studies, and each image again until it gets a success response."""

    def __init__(self, port: int, studies: Iterable[str], seed: int) -> None:
        self._port = port
        self._studies = studies
        self._random = random.Random(seed)
        self.acknowledged: dict[str, float] = {}
        """The time of the response to the last image of each study."""
        self.images = self.repeats = 0
        self.stored: list[Dataset] = []
        """The images with a success response, in order; one that was sent twice is there twice."""

    def run(self) -> None:
        """Send all studies, one after the other."""
        for study in self._studies:
            images = [make_instance(study, number=number) for number in range(1, IMAGES + 1)]
            twice = [image for image in images if self._random.random() < 0.1]
            waiting = [*images, *twice]
            while waiting:
                sent = self._send(waiting)
                self.repeats += sent < len(waiting)
                waiting = waiting[sent:]
            self.images += len(images)
            self.repeats += len(twice)
            self.acknowledged[study] = time.monotonic()

    def _send(self, images: list[Dataset]) -> int:
        """Send images over one association; return how many got a success response before the first failure."""
        ae = ApplicationEntity("SCANNER")
        ae.add_requested_context(MR_IMAGE_STORAGE, ExplicitVRLittleEndian)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        peer = ae.associate("127.0.0.1", self._port, ae_title="GLIONODE")
        sent = 0
        if peer.is_established:
            for image in images:
                try:
                    answer = peer.send_c_store(image)
                except (RuntimeError, ValueError, OSError):  # the association ended meanwhile
                    break
                if getattr(answer, "Status", None) != 0x0000:
                    break
                sent += 1
                self.stored.append(image)
            peer.release() if peer.is_established else peer.abort()
        if sent < len(images):
            time.sleep(0.2)  # the pause of a sender that tries again
        return sent


def main() -> int:
    """Run the walk, and print the counts as text and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=3.0, help="Mean seconds between two kills.")
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    counts = walk(options.work, options.studies, options.kills, options.seed, options.every, options.parts)
    for name, value in asdict(counts).items():
        print(f"{name.replace('_', ' '):22}{value if not isinstance(value, float) else round(value, 1)}")
    print(json.dumps(asdict(counts)))
    return 1 if counts.lost or counts.altered or counts.duplicated or counts.stuck_jobs or counts.parked_jobs else 0


def walk(work: Path, studies: int, kills: int, seed: int, every_s: float, parts: bool) -> Counts:
    """Send studies while processes are killed, wait for the results, and count."""
    pacs, names = RecordingPacs(), [new_study_uid() for _ in range(studies)]
    with ExitStack() as stack:
        node = RestartingNode(work, parts, stack.enter_context(pacs.running()), SECONDS_A_STUDY)
        stack.callback(node.stop)
        node.wait_until_listening()
        scanners = [Scanner(node.port, names[number::SENDERS], seed + number) for number in range(SENDERS)]
        threads = [threading.Thread(target=scanner.run, daemon=True) for scanner in scanners]
        for thread in threads:
            thread.start()
        expected = {f"{study}.99.{number}" for study in names for number in range(1, len(OUTPUT_CLASSES) + 1)}
        killed = kill(node, random.Random(seed), kills, every_s)
        deadline = time.monotonic() + LIMIT_AFTER_S
        jobs: dict[str, int] = {}
        while time.monotonic() < deadline:
            node.check()
            if expected <= set(pacs.objects) and not any(thread.is_alive() for thread in threads):
                jobs = job_states(node)
                if jobs and not jobs.keys() & {"queued", "running"}:
                    break
            time.sleep(0.1)
        jobs = jobs or job_states(node)
    acknowledged = {study: at for scanner in scanners for study, at in scanner.acknowledged.items()}
    times = sorted([min(acknowledged.values()), *pacs.times.values()])
    return Counts(
        studies=studies,
        kills=dict(killed),
        images_acknowledged=sum(scanner.images for scanner in scanners),
        images_sent_again=sum(scanner.repeats for scanner in scanners),
        results_expected=len(expected),
        results_at_pacs=len(expected & set(pacs.objects)),
        lost=len(expected - set(pacs.objects)),
        altered=pacs.altered,
        duplicated=len(set(pacs.objects) - expected),
        received_twice=pacs.repeats,
        stuck_jobs=jobs.get("queued", 0) + jobs.get("running", 0),
        parked_jobs=jobs.get("failed", 0),
        slowest_study_s=max(
            (pacs.times[uid] - acknowledged[uid.rsplit(".99.", 1)[0]] for uid in expected & set(pacs.objects)),
            default=0,
        ),
        longest_silence_s=max(later - sooner for sooner, later in pairwise(times)),
    )


def job_states(node: RestartingNode) -> dict[str, int]:
    """Return the number of jobs in each state; empty while the database does not respond."""
    try:
        with psycopg.connect(node.url) as connection:
            return dict(connection.execute("SELECT state, count(*) FROM glionode_jobs GROUP BY state").fetchall())
    except psycopg.OperationalError:
        return {}


def kill(node: RestartingNode, chance: random.Random, kills: int, every_s: float) -> Counter[str]:
    """Kill processes one after the other at random times; return the counts by kind."""
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        until = time.monotonic() + chance.expovariate(1 / every_s)
        while time.monotonic() < until:
            node.check()
            time.sleep(0.05)
        victims = node.victims()
        if victims:
            name = chance.choice(sorted(victims))
            try:
                victims[name]()
            except ProcessLookupError:
                continue
            killed[name.rsplit(" ", 1)[0] if name[-1].isdigit() else name] += 1
    return killed


if __name__ == "__main__":
    sys.exit(main())
