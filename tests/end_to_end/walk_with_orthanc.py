"""Twenty studies at once into an Orthanc, and what its users feel of it: the latency of /system. Prints a table.

By hand, on a machine that does nothing else: walk_with_orthanc.py WORK_FOLDER [--studies N] [--study FOLDER]
[--nice N]. With the folder of a study (`dicom` of what `glionode phantom` writes), copies of it go through the bundled
model; without one, small studies through a stand-in. `--nice` is for the node.

    idle          Orthanc with the plugin, the node beside it, nothing to do; before the studies and after them
    alone         Orthanc without plugin and node, while the studies come: what receiving costs in any case
    receiving     Orthanc with plugin and node, while the studies come
    segmenting    from then on until the last result is in Orthanc
"""

import http.client
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydicom import dcmread

from tests.support.orthanc_site import DICOM, HTTP, PASSWORD, Site
from tests.support.programs import private_network, wait_for
from tests.support.small_study import write_small_study

ROOT = "1.2.826.0.1.3680043.8.498.78"
EVERY_S = 0.02
IDLE_S = 15.0
LIMIT_S = 3600.0
QUICK = {"StableAge": 5}


class Latencies:
    """Asks for /system again and again, each time over a connection of its own, as a monitor or a viewer would."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}
        self.loads: dict[str, float] = {}
        """Of the machine over the last minute, as each phase ended: more than a phase itself makes is others'."""
        self._phase = ""
        self._stop = threading.Event()
        self._user = b64encode(f"glionode:{PASSWORD}".encode()).decode()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Measure for as long as the block runs."""
        self._phase = phase
        self._stop.clear()
        thread = threading.Thread(target=self._ask_on)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def next_phase(self, phase: str) -> None:
        """From now on it is another one."""
        self._phase = phase

    def _ask_on(self) -> None:
        while not self._stop.wait(EVERY_S):
            phase, began = self._phase, time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=60)
            connection.request("GET", "/system", headers={"Authorization": f"Basic {self._user}"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status != 200:
                raise RuntimeError(f"/system answers HTTP {answer.status}")
            self.found.setdefault(phase, []).append(1000 * (time.perf_counter() - began))
            self.loads[phase] = os.getloadavg()[0]


def main(
    work: Path,
    studies: Annotated[int, typer.Option(help="How many.")] = 20,
    study: Annotated[Path | None, typer.Option(help="A folder with one study.")] = None,
    nice: Annotated[int, typer.Option(help="Of the node's processes.")] = 0,
) -> None:
    """Walk and print the table."""
    private_network()
    storescu, orthanc = shutil.which("storescu", path="/usr/bin"), shutil.which("Orthanc", path="/usr/sbin")
    assert storescu is not None, "DCMTK's storescu is needed"
    assert orthanc is not None, "Debian's Orthanc is needed"
    work.mkdir(parents=True, exist_ok=True)
    folders = _studies(work / "studies", studies, study)
    latencies = Latencies()
    with (
        tempfile.TemporaryDirectory(prefix="gn-alone-") as folder,
        Site(Path(folder), orthanc).first(plugin=False),
        latencies.during("alone"),
    ):
        _send_at_once(storescu, folders)
    with tempfile.TemporaryDirectory(prefix="gn-beside-") as folder:
        site = Site(Path(folder), orthanc)
        with site.second(), site.first(**QUICK), site.node(stand_in=study is None, nice=nice):
            wait_for("the plugin's finding of the node", lambda: _jobs(site), 60)
            with latencies.during("idle"):
                time.sleep(IDLE_S)
            with latencies.during("receiving"):
                began = time.monotonic()
                _send_at_once(storescu, folders)
                latencies.next_phase("segmenting")
                wait_for("all results", lambda: _all_over(site, len(folders)), LIMIT_S)
                seconds = time.monotonic() - began
            with latencies.during("idle"):
                time.sleep(IDLE_S)
            jobs = _jobs(site)
    print(f"{len(folders)} studies, {os.cpu_count()} cores, nice {nice}: {seconds:.0f} s until the last result; {jobs}")
    _print(latencies.found, latencies.loads)


def _studies(folder: Path, count: int, model: Path | None) -> list[Path]:
    """Studies of patients of their own: small ones, or copies of one."""
    for number in range(count):
        uid = f"{ROOT}.{number + 1}"
        target = folder / uid
        if target.exists():
            continue
        if model is None:
            write_small_study(uid, target)
        else:
            _copy_as(uid, model, target)
    return sorted(folder.iterdir())


def _copy_as(uid: str, model: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(each for each in model.rglob("*") if each.is_file())):
        instance = dcmread(path)
        # What refers to others goes by the same rule, so references stay right.
        series = str(instance.SeriesInstanceUID).rpartition(".")[2][:12]
        instance.StudyInstanceUID = uid
        instance.SeriesInstanceUID = f"{uid}.{series}"
        instance.SOPInstanceUID = f"{uid}.{series}.{number}"
        instance.FrameOfReferenceUID = f"{uid}.9"
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
        instance.PatientID = f"WALK-{uid.rpartition('.')[2]}"
        instance.save_as(target / f"{number}.dcm")


def _send_at_once(storescu: str, folders: list[Path]) -> None:
    command = [storescu, "--call", "ORTHANC", "--scan-directories", "127.0.0.1", str(DICOM)]
    senders = [subprocess.Popen([*command, str(folder)]) for folder in folders]
    ends = [sender.wait(600) for sender in senders]
    if any(ends):
        raise RuntimeError("a storescu failed")


def _jobs(site: Site) -> dict[str, int] | None:
    found = site.ask("/glionode/status") or {}
    return {state: count for state, count in found["jobs"].items() if count} if "jobs" in found else None


def _all_over(site: Site, count: int) -> bool | None:
    """Whether all jobs are over."""
    jobs = _jobs(site) or {}
    over = sum(number for state, number in jobs.items() if state not in ("queued", "running"))
    time.sleep(1.0)  # so that asking costs nothing beside what is measured
    return True if over >= count else None


def _print(found: dict[str, list[float]], loads: dict[str, float]) -> None:
    measures: dict[str, Callable[[list[float]], float]] = {
        "median": statistics.median,
        "95 %": _most,
        "99 %": lambda values: statistics.quantiles(values, n=100)[-1],
        "max": max,
    }
    columns = "".join(f"{name:>9}" for name in measures)
    print(f"{'/system, ms':<12}{'asked':>7}{columns}{'median / idle':>15}{'95 % / idle':>13}{'load':>7}")
    for phase in ("idle", "alone", "receiving", "segmenting"):
        values = found.get(phase, [])
        if len(values) > 1:
            numbers = "".join(f"{measure(values):9.2f}" for measure in measures.values())
            median, most = (measure(values) / measure(found["idle"]) for measure in (statistics.median, _most))
            print(f"{phase:<12}{len(values):>7}{numbers}{median:15.1f}{most:13.1f}{loads[phase]:7.1f}")


def _most(values: list[float]) -> float:
    """What 95 % of them are within."""
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith("GLIONODE_")]:
        del os.environ[variable]
    typer.run(main)
