"""Send twenty studies at once to an Orthanc with a node beside it, and measure the latency of /system. Prints a table.

    python -m tests.end_to_end.walk_with_orthanc WORK_FOLDER [--studies N] [--study FOLDER] [--nice N]

No test runs this; run it on an otherwise idle machine. With the folder of a study (`dicom` of what `glionode phantom`
writes), copies of it are segmented with the bundled model; without one, the stand-in segmenter processes small studies.
`--nice` applies to the node. The phases:

    idle          Orthanc with the Orthanc script and the node, without work; before and after the studies
    alone         Orthanc without script and node while the studies arrive: the cost of receiving
    receiving     Orthanc with script and node while the studies arrive
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
from tests.support.programs import clear_settings, private_network, wait_for
from tests.support.small_study import write_small_study

PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
ROOT = "1.2.826.0.1.3680043.8.498.78"
EVERY_S = 0.02
IDLE_S = 15.0
LIMIT_S = 3600.0
QUICK = {"StableAge": 5}


class Latencies:
    """Requests /system again and again, each time over a new connection, as a monitor or a viewer would."""

    def __init__(self) -> None:
        self.latencies_ms: dict[str, list[float]] = {}
        self.loads: dict[str, float] = {}
        """The load average of the last minute at the end of each phase, which shows other load on the machine."""
        self._phase = ""
        self._stop = threading.Event()
        self._user = b64encode(f"glionode:{PASSWORD}".encode()).decode()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Measure during the block, under the name of a phase."""
        self._phase = phase
        self._stop.clear()
        thread = threading.Thread(target=self._measure)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def next_phase(self, phase: str) -> None:
        """Count the following requests under another phase."""
        self._phase = phase

    def _measure(self) -> None:
        while not self._stop.wait(EVERY_S):
            phase, started = self._phase, time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=60)
            connection.request("GET", "/system", headers={"Authorization": f"Basic {self._user}"})
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status != 200:
                raise RuntimeError(f"/system responds with HTTP {response.status}")
            self.latencies_ms.setdefault(phase, []).append(1000 * (time.perf_counter() - started))
            self.loads[phase] = os.getloadavg()[0]


def main(
    work: Path,
    studies: Annotated[int, typer.Option(help="How many studies to send.")] = 20,
    study: Annotated[Path | None, typer.Option(help="A folder with one study to send copies of.")] = None,
    nice: Annotated[int, typer.Option(help="Niceness of the node's processes.")] = 0,
) -> None:
    """Run the walk and print the table."""
    private_network()
    storescu, orthanc = shutil.which("storescu", path="/usr/bin"), shutil.which("Orthanc", path="/usr/sbin")
    assert storescu is not None, "DCMTK's storescu is needed"
    assert orthanc is not None, "Debian's Orthanc is needed"
    work.mkdir(parents=True, exist_ok=True)
    folders = _write_studies(work / "studies", studies, study)
    latencies = Latencies()
    with (
        tempfile.TemporaryDirectory(prefix="gn-alone-") as folder,
        Site(Path(folder), orthanc, PYTHON_PLUGIN).first(with_script=False),
        latencies.during("alone"),
    ):
        _send_at_once(storescu, folders)
    with tempfile.TemporaryDirectory(prefix="gn-beside-") as folder:
        site = Site(Path(folder), orthanc, PYTHON_PLUGIN)
        with site.second(), site.first(**QUICK), site.node(stand_in=study is None, nice=nice):
            wait_for("the script's reaching the node", lambda: _jobs(site) is not None, 60)
            with latencies.during("idle"):
                time.sleep(IDLE_S)
            with latencies.during("receiving"):
                started = time.monotonic()
                _send_at_once(storescu, folders)
                latencies.next_phase("segmenting")
                wait_for("all results", lambda: _all_finished(site, len(folders)), LIMIT_S)
                seconds = time.monotonic() - started
            with latencies.during("idle"):
                time.sleep(IDLE_S)
            jobs = _jobs(site)
    print(f"{len(folders)} studies, {os.cpu_count()} cores, nice {nice}: {seconds:.0f} s until the last result; {jobs}")
    _print(latencies.latencies_ms, latencies.loads)


def _write_studies(folder: Path, count: int, model: Path | None) -> list[Path]:
    """Write studies of different patients: small ones, or copies of one."""
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
        # References between the images are replaced by the same rule and stay valid.
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


def _all_finished(site: Site, count: int) -> bool:
    """Return whether so many jobs have finished."""
    jobs = _jobs(site) or {}
    finished = sum(number for state, number in jobs.items() if state not in ("queued", "running"))
    time.sleep(1.0)  # so that the requests do not disturb the measurement
    return finished >= count


def _print(found: dict[str, list[float]], loads: dict[str, float]) -> None:
    measures: dict[str, Callable[[list[float]], float]] = {
        "median": statistics.median,
        "95 %": _percentile_95,
        "99 %": lambda values: statistics.quantiles(values, n=100)[-1],
        "max": max,
    }
    columns = "".join(f"{name:>9}" for name in measures)
    print(f"{'/system, ms':<12}{'requests':>9}{columns}{'median / idle':>15}{'95 % / idle':>13}{'load':>7}")
    for phase in ("idle", "alone", "receiving", "segmenting"):
        values = found.get(phase, [])
        if len(values) > 1:
            numbers = "".join(f"{measure(values):9.2f}" for measure in measures.values())
            median, high = (measure(values) / measure(found["idle"]) for measure in (statistics.median, _percentile_95))
            print(f"{phase:<12}{len(values):>9}{numbers}{median:15.1f}{high:13.1f}{loads[phase]:7.1f}")


def _percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    clear_settings()
    typer.run(main)
