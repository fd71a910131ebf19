"""By hand: a node gets thousands of wounded objects and one of 256 MiB, then a study; prints what became of them.

    .venv/bin/python -m tests.end_to_end.walk_with_mutations [OBJECTS [SEED]]

The node is `glionode serve` with the bundled model, whose worker takes the studies that the wounded objects are of.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from plugin.archive.quarantine import count_quarantined
from plugin.dimse.pynetdicom_internals import ApplicationEntity
from plugin.listener.c_store_handler import NOT_A_DATA_SET, SUCCESS
from tests.support.hostile_dicom import mutated, send_all
from tests.support.node import make_instance, new_study_uid
from tests.support.programs import GLIONODE, node, wait_for

OBJECTS_A_STUDY = 40
LARGE_MIB = 256
SETTINGS = """
[listener]
port = 0
quarantine_files = 100
[storage]
data_dir = "{data_dir}"
minimum_free_mb = 0
[study]
stable_after_s = 2.0
"""


def main(objects: int, seed: int) -> None:
    """Send, wait until every job is over, and print."""
    with tempfile.TemporaryDirectory(prefix="gn-") as name:
        work = Path(name)
        data_dir, settings = work / "data", work / "glionode.toml"
        settings.write_text(SETTINGS.format(data_dir=data_dir))
        study = phantom(work)
        with node(settings, data_dir, work / "log") as port, process_tree(data_dir) as tree:
            begun = time.monotonic()
            start = tree.peak_mib()
            statuses = send_all(port, mutated(objects, max(1, objects // OBJECTS_A_STUDY), seed))
            sending_s = time.monotonic() - begun
            after_mutations = tree.peak_mib()
            send_large(port)
            after_large = tree.peak_mib()
            ask = ("jobs", "--json", "--limit", "0", "--config", settings)
            received = json.loads(told("status", "--json", "--config", settings))["studies_received"]
            of_mutations = wait_for("the jobs' end", lambda: over(json.loads(told(*ask)), received), 3600)
            send_study(port, work / "phantom" / "dicom")
            jobs = wait_for("the study's end", lambda: over(json.loads(told(*ask)), received + 1), 600)
            end = tree.peak_mib()
        log = (work / "log").read_text()
        rows: list[tuple[str, object]] = [
            ("sent", statuses.total()),
            ("stored", statuses[SUCCESS]),
            ("refused, no data set (0xC001)", statuses[NOT_A_DATA_SET]),
            *((f"refused, 0x{status:04X}", n) for status, n in sorted(statuses.items()) if status not in (0, 0xC001)),
            ("copies in quarantine", count_quarantined(data_dir)),
            ("objects a second", f"{statuses.total() / sending_s:.0f}"),
            ("jobs of their studies", ", ".join(sorted(count_of(of_mutations)))),
            ("the next study", next(job["state"] for job in jobs if job["study_instance_uid"] == study)),
            ("peak MiB of the listener: start", start[0]),
            ("... after the wounded ones", after_mutations[0]),
            (f"... after one of {LARGE_MIB} MiB", after_large[0]),
            ("peak MiB of the worker: start", start[1]),
            ("... after their studies and the next", end[1]),
            ("worker deaths", log.count("the worker ended")),
            ("tracebacks in the log", log.count("Traceback")),
        ]
        table = Table("Wounded objects", str(objects), title=f"seed {seed}")
        for what, value in rows:
            table.add_row(what, str(value))
        Console().print(table)


def phantom(work: Path) -> str:
    """Make a study; returns its UID."""
    told("phantom", work / "phantom")
    return str(json.loads((work / "phantom" / "truth.json").read_text())["study_uid"])


def told(*arguments: object) -> str:
    """What a command of the command line says."""
    return subprocess.run([*GLIONODE, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def over(jobs: list[Any], studies: int) -> list[Any] | None:
    """The jobs where each of so many studies has one and none waits or runs."""
    waits = any(job["state"] in ("queued", "running") for job in jobs)
    return jobs if len({job["study_instance_uid"] for job in jobs}) == studies and not waits else None


def count_of(jobs: list[Any]) -> list[str]:
    """Jobs by state, in words."""
    states = [job["state"] for job in jobs]
    return [f"{states.count(state)} {state}" for state in set(states)]


def send_large(port: int) -> None:
    """One object that is too large to be held by anybody who does not mean to."""
    instance = make_instance(new_study_uid())
    instance.PixelData = bytes(LARGE_MIB << 20)
    ae = ApplicationEntity("SENDER")
    ae.add_requested_context(instance.SOPClassUID, instance.file_meta.TransferSyntaxUID)
    peer = ae.associate("127.0.0.1", port, ae_title="GLIONODE")
    assert peer.send_c_store(instance).Status == SUCCESS
    peer.release()


def send_study(port: int, folder: Path) -> None:
    """A whole study, by DCMTK."""
    command = ["storescu", "-aec", "GLIONODE", "+sd", "+r", "127.0.0.1", str(port), str(folder)]
    subprocess.run(command, check=True, capture_output=True)


class ProcessTree:
    """A running node's processes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def peak_mib(self) -> tuple[int, int]:
        """The most that the listener's process ever had, and the most that any Python process below it ever had."""
        below = [pid for pid in _children(self._pid) if "python" in _status(pid, "Name")]
        return _peak(self._pid), max((_peak(pid) for pid in below), default=0)


@contextmanager
def process_tree(data_dir: Path) -> Iterator[ProcessTree]:
    """The processes of the node that runs on a data folder, once its worker is there."""
    tree = ProcessTree(int(json.loads((data_dir / "serve.json").read_text())["pid"]))
    wait_for("the worker's start", lambda: tree.peak_mib()[1] > 300 or None, 120)
    yield tree


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        if _status(int(status.parent.name), "PPid") == str(pid):
            found.append(int(status.parent.name))
    return found


def _peak(pid: int) -> int:
    return int((_status(pid, "VmHWM") or "0").split()[0]) >> 10


def _status(pid: int, key: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
