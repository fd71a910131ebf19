"""Studies are sent to a node whose processes are killed all the time; then count what the PACS has. Prints a table.

Run as a program: walk_with_crashes.py WORK_FOLDER [--studies 200] [--kills 60] [--seed 1] [--every 3] [--parts].
Without --parts the node is one `glionode serve` with its embedded database, with it a `listen`, two `work`, a `deliver`
and a PostgreSQL of their own. Victims and moments are drawn by the seed; the dead are started again after a moment, as
systemd does. A tenth of the images is sent twice, and a sender repeats what was not acknowledged. The stand-in of the
tests is the segmenter: two objects a study, whose UIDs follow from the study's. Exit status 1 if something was lost,
altered, or stuck.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import psycopg
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from plugin.dimse.pynetdicom_internals import ApplicationEntity
from tests.support.crash_node import Node
from tests.support.node import MR_IMAGE_STORAGE, make_instance, new_study_uid
from tests.support.stand_in_segmenter import OUTPUT_CLASSES

IMAGES = 3
SECONDS_A_STUDY = 0.3
"""What the stand-in takes, so that workers die in mid-job."""
SENDERS = 4
LIMIT_AFTER_S = 180.0
"""How long the node may take for what is left once nobody is killed any more."""


@dataclass
class Table:
    """What came of it."""

    studies: int
    kills: dict[str, int]
    images_acknowledged: int
    images_sent_again: int
    results_expected: int
    results_at_pacs: int
    lost: int
    altered: int
    duplicated: int
    """Other than these results."""
    received_twice: int
    """The same bytes under the same UID once more, where the answer to the first was lost."""
    stuck_jobs: int
    parked_jobs: int
    slowest_study_s: float
    """From the acknowledgement of its last image to its last result at the PACS."""
    longest_silence_s: float
    """Without a result at the PACS while studies waited."""


@dataclass
class Pacs:
    """A receiver that remembers a digest of each object, and when it came."""

    objects: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    again: int = 0
    altered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Gives the port."""
        ae = AE("PACS")
        for sop_class in OUTPUT_CLASSES:
            ae.add_supported_context(sop_class, ExplicitVRLittleEndian)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        uid, content = str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue()
        with self.lock:
            if uid in self.objects:
                self.again += 1
                self.altered += self.objects[uid] != content
            else:
                self.objects[uid], self.times[uid] = content, time.monotonic()
        return 0x0000


class Scanner:
    """Sends studies, each image until it is acknowledged."""

    def __init__(self, port: int, studies: list[str], seed: int) -> None:
        self._port = port
        self._studies = studies
        self._random = random.Random(seed)
        self.acknowledged: dict[str, float] = {}
        """When the last image of a study was."""
        self.images = self.again = 0

    def run(self) -> None:
        """Send all of them."""
        for study in self._studies:
            images = [make_instance(study, number=number) for number in range(1, IMAGES + 1)]
            twice = [image for image in images if self._random.random() < 0.1]
            waiting = [*images, *twice]
            while waiting:
                sent = self._send(waiting)
                self.again += sent < len(waiting)
                waiting = waiting[sent:]
            self.images += len(images)
            self.again += len(twice)
            self.acknowledged[study] = time.monotonic()

    def _send(self, images: list[Dataset]) -> int:
        """How many of them, from the first, were acknowledged before the association broke or one was refused."""
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
            peer.release() if peer.is_established else peer.abort()
        if sent < len(images):
            time.sleep(0.2)  # the pause of a sender that tries again
        return sent


def main() -> int:
    """Walk once and print the table, as text and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=3.0, help="Mean seconds between two kills.")
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    table = walk(options.work, options.studies, options.kills, options.seed, options.every, options.parts)
    for name, value in asdict(table).items():
        print(f"{name.replace('_', ' '):22}{value if not isinstance(value, float) else round(value, 1)}")
    print(json.dumps(asdict(table)))
    return 1 if table.lost or table.altered or table.duplicated or table.stuck_jobs or table.parked_jobs else 0


def walk(work: Path, studies: int, kills: int, seed: int, every_s: float, parts: bool) -> Table:
    """Send, kill, wait, count."""
    pacs, names = Pacs(), [new_study_uid() for _ in range(studies)]
    with ExitStack() as stack:
        node = Node(work, parts, stack.enter_context(pacs.running()), SECONDS_A_STUDY)
        stack.callback(node.stop)
        wait_for_it(node)
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
    return Table(
        studies=studies,
        kills=dict(killed),
        images_acknowledged=sum(scanner.images for scanner in scanners),
        images_sent_again=sum(scanner.again for scanner in scanners),
        results_expected=len(expected),
        results_at_pacs=len(expected & set(pacs.objects)),
        lost=len(expected - set(pacs.objects)),
        altered=pacs.altered,
        duplicated=len(set(pacs.objects) - expected),
        received_twice=pacs.again,
        stuck_jobs=jobs.get("queued", 0) + jobs.get("running", 0),
        parked_jobs=jobs.get("failed", 0),
        slowest_study_s=max(
            (pacs.times[uid] - acknowledged[uid.rsplit(".99.", 1)[0]] for uid in expected & set(pacs.objects)),
            default=0,
        ),
        longest_silence_s=max(later - sooner for sooner, later in pairwise(times)),
    )


def job_states(node: Node) -> dict[str, int]:
    """How many jobs are in each state; empty while the database is away."""
    try:
        with psycopg.connect(node.url) as connection:
            return dict(connection.execute("SELECT state, count(*) FROM glionode_jobs GROUP BY state").fetchall())
    except psycopg.OperationalError:
        return {}


def wait_for_it(node: Node) -> None:
    """Return when it listens."""
    while True:
        node.check()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", node.port)) == 0:
                return
        time.sleep(0.1)


def kill(node: Node, chance: random.Random, kills: int, every_s: float) -> Counter[str]:
    """Kill one after the other at random moments; counts by kind."""
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
