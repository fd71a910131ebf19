"""Send thousands of damaged objects, one of 256 MiB and then a study to a node; print a table of what became of them.

    python -m tests.end_to_end.walk_with_mutations [OBJECTS [SEED]]

No test runs this. The node is `glionode serve` with the bundled model, and its worker processes the studies with the
damaged objects.
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
from plugin.listener.c_store_handler import NOT_A_DATA_SET, SUCCESS
from tests.support.hostile_dicom import mutated, send_all
from tests.support.listener import association
from tests.support.node import make_instance, new_study_uid
from tests.support.programs import GLIONODE, child_pids, memory_mib, node, wait_for

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
    """Send everything, wait for the end of all jobs, and print the table."""
    with tempfile.TemporaryDirectory(prefix="gn-") as name:
        work = Path(name)
        data_dir, settings = work / "data", work / "glionode.toml"
        settings.write_text(SETTINGS.format(data_dir=data_dir))
        study = phantom(work)
        with node(settings, data_dir, work / "log") as port, process_tree(data_dir) as tree:
            started = time.monotonic()
            start = tree.peak_mib()
            statuses = send_all(port, mutated(objects, max(1, objects // OBJECTS_A_STUDY), seed))
            sending_s = time.monotonic() - started
            after_mutations = tree.peak_mib()
            send_large(port)
            after_large = tree.peak_mib()
            list_jobs = ("jobs", "--json", "--limit", "0", "--config", settings)
            received = json.loads(glionode("status", "--json", "--config", settings))["studies_received"]
            damaged = wait_for("the jobs' end", lambda: finished(json.loads(glionode(*list_jobs)), received), 3600)
            send_study(port, work / "phantom" / "dicom")
            jobs = wait_for("the study's end", lambda: finished(json.loads(glionode(*list_jobs)), received + 1), 600)
            end = tree.peak_mib()
        log = (work / "log").read_text()
        rows: list[tuple[str, object]] = [
            ("sent", statuses.total()),
            ("stored", statuses[SUCCESS]),
            ("refused, no data set (0xC001)", statuses[NOT_A_DATA_SET]),
            *((f"refused, 0x{status:04X}", n) for status, n in sorted(statuses.items()) if status not in (0, 0xC001)),
            ("copies in quarantine", count_quarantined(data_dir)),
            ("objects a second", f"{statuses.total() / sending_s:.0f}"),
            ("jobs of their studies", ", ".join(sorted(count_states(damaged)))),
            ("the next study", next(job["state"] for job in jobs if job["study_instance_uid"] == study)),
            ("peak MiB of the listener: start", start[0]),
            ("... after the damaged ones", after_mutations[0]),
            (f"... after one of {LARGE_MIB} MiB", after_large[0]),
            ("peak MiB of the worker: start", start[1]),
            ("... after their studies and the next", end[1]),
            ("worker deaths", log.count("the worker ended")),
            ("tracebacks in the log", log.count("Traceback")),
        ]
        table = Table("Damaged objects", str(objects), title=f"seed {seed}")
        for what, value in rows:
            table.add_row(what, str(value))
        Console().print(table)


def phantom(work: Path) -> str:
    """Write a phantom study and return its UID."""
    glionode("phantom", work / "phantom")
    return str(json.loads((work / "phantom" / "truth.json").read_text())["study_uid"])


def glionode(*arguments: object) -> str:
    """Run a command and return its output."""
    return subprocess.run([*GLIONODE, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def finished(jobs: list[Any], studies: int) -> list[Any] | None:
    """Return the jobs if each of so many studies has one and none is queued or running; else None."""
    unfinished = any(job["state"] in ("queued", "running") for job in jobs)
    return jobs if len({job["study_instance_uid"] for job in jobs}) == studies and not unfinished else None


def count_states(jobs: list[Any]) -> list[str]:
    """Return the number of jobs in each state, as text."""
    states = [job["state"] for job in jobs]
    return [f"{states.count(state)} {state}" for state in set(states)]


def send_large(port: int) -> None:
    """Send an object so large that holding it in memory shows."""
    instance = make_instance(new_study_uid())
    instance.PixelData = bytes(LARGE_MIB << 20)
    with association(port) as peer:
        assert peer.send_c_store(instance).Status == SUCCESS


def send_study(port: int, folder: Path) -> None:
    """Send a study with DCMTK's storescu."""
    command = ["storescu", "-aec", "GLIONODE", "+sd", "+r", "127.0.0.1", str(port), str(folder)]
    subprocess.run(command, check=True, capture_output=True)


class ProcessTree:
    """The processes of a running node."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def peak_mib(self) -> tuple[int, int]:
        """Return the peak memory of the listener's process, and the highest of the Python processes that it started."""
        workers = [pid for pid in child_pids(self._pid) if _is_python(pid)]
        return round(memory_mib(self._pid, "VmHWM")), max(
            (round(memory_mib(pid, "VmHWM")) for pid in workers), default=0
        )


@contextmanager
def process_tree(data_dir: Path) -> Iterator[ProcessTree]:
    """Yield the processes of the node that uses a data folder, once its worker has started."""
    tree = ProcessTree(int(json.loads((data_dir / "serve.json").read_text())["pid"]))
    wait_for("the worker's start", lambda: tree.peak_mib()[1] > 300, 120)
    yield tree


def _is_python(pid: int) -> bool:
    try:
        return "python" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:  # it has ended
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
