"""Measure a whole case: ours, ours of another checkout, a plain pipeline of the same parts, and the network's floor.

    python -m benchmarks.whole_case [STUDY ...] [--repeats 3] [--before CHECKOUT] [--only ROW ...] [--json FILE]

STUDY is a folder of DICOM files, or one with a folder `dicom`; without any, a phantom is made. The rows, each in a
process of its own, take turns over the same study, so that other load on the machine affects all of them:

    ours     `glionode segment` of this checkout
    warm     the second of two equal studies in one process, as in a worker; "process" and "peak" are of both studies
    before   `glionode segment` of the checkout CHECKOUT, if one is given
    plain    benchmarks/plain_pipeline.py on the series that ours chose, on the device that ours used
    floor    benchmarks/network_floor.py on the grid of ours, once

The table shows the run with the least total of each row; the JSON has all runs. "Total" covers the steps of a study,
"process" everything from the start of Python to its end, "start" the time from there to the first step, "CPU" the
processor seconds of the process, "peak" its memory. Dice is computed against truth_t1ce.nii.gz in STUDY, if there is
one, and between the masks of this and the other checkout. The exit status is 1 if a row failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.masks_of_seg import dice_against_truth, dice_between
from benchmarks.studies import copies, dicom_folder, read_images, write_images, write_small_model, write_study
from tests.support.paths import ROOT
from tests.support.programs import GLIONODE, clear_settings

ROWS = ("ours", "warm", "before", "plain", "floor")

# Runs a command in a process that runs nothing else, so that its memory is measured alone.
_MEASURE = """
import json, resource, subprocess, sys, time
started = time.time()
done = subprocess.run(sys.argv[1:], stdout=2)
seconds, used = time.time() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"rc": done.returncode, "started": started, "process_s": seconds,
                  "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


class RowFailed(Exception):
    """A row's process failed; the message has the end of what it wrote to standard error."""


@dataclass(frozen=True)
class Run:
    """The measurements of one process."""

    device: str
    steps_s: dict[str, float]
    """By step, and "total"."""
    process_s: float
    cpu_s: float
    peak_mib: float
    start_s: float | None = None


@dataclass
class Case:
    """A study, its rows so far, and what the rows need of each other."""

    name: str
    study: Path
    work: Path
    options: argparse.Namespace
    arguments: tuple[str, ...] = ()
    """More arguments of `glionode segment`."""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    floor: dict[str, Any] | None = None
    dice: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def report(self) -> dict[str, Any]:
        """The report of this checkout."""
        return dict(json.loads((self.work / "ours" / "report.json").read_text()))


def main() -> None:
    """Measure all studies, print a table for each, and exit with 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, metavar="STUDY")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="a coarse head and a tiny network, to try the benchmark")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clear_settings()
    with tempfile.TemporaryDirectory(prefix="glionode-case-") as folder:
        cases = [measure(case) for case in make_cases(options, Path(folder))]
    for case in cases:
        print_table(case)
    machine = describe_machine()
    print(f"{machine['cores']} cores, {machine['processor']}")
    if options.json:
        document = {"machine": machine, "cases": [as_json(case) for case in cases]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if any(case.failed for case in cases) else 0)


def make_cases(options: argparse.Namespace, work: Path) -> list[Case]:
    """Return the cases to measure: of the given studies, or of one that is written here."""
    studies = {study.resolve().name: study.resolve() for study in options.studies}
    arguments: tuple[str, ...] = ("--device", options.device)
    if not studies:
        name = "coarse head" if options.small else "phantom"
        studies = {name: work / "study"}
        write_study(work / "study", options.small)
    if options.small:
        settings = work / "glionode.toml"
        model = write_small_model(work / "models")
        settings.write_text(f"[model]\nname = {model!r}\ninstalled_dir = {str(work / 'models')!r}\n")
        arguments += ("--config", str(settings))
    return [Case(name, study, work / f"case-{name}", options, arguments) for name, study in studies.items()]


def measure(case: Case) -> Case:
    """Run the rows in turns."""
    rows: dict[str, Callable[[Case], Run]] = {"ours": run_ours, "warm": run_warm, "plain": run_plain}
    if case.options.before is not None:
        rows["before"] = run_before
    case.work.mkdir()
    wanted = [row for row in ROWS if row in case.options.only]
    for _ in range(case.options.repeats):
        for name in wanted:
            if name in rows and name not in case.failed:
                attempt(case, name, rows[name])
    if "floor" in wanted:
        attempt(case, "floor", measure_floor)
    seg = "seg-t1ce.dcm"
    if "ours" in case.runs and (truth := case.study / "truth_t1ce.nii.gz").is_file():
        case.dice["truth"] = dice_against_truth(case.work / "ours" / seg, truth)
    if "ours" in case.runs and "before" in case.runs:
        case.dice["before"] = dice_between(case.work / "ours" / seg, case.work / "before" / seg)
    return case


def attempt(case: Case, row: str, work: Callable[[Case], Run | None]) -> None:
    """Do the work and keep its run, and note if it fails; the other rows go on."""
    try:
        if run := work(case):
            case.runs.setdefault(row, []).append(run)
    except (RowFailed, OSError, KeyError) as exc:
        case.failed[row] = f"{type(exc).__name__}: {exc}"
        print(f"{case.name}, {row}: {exc}", file=sys.stderr)


def run_ours(case: Case) -> Run:
    """Segment the study with this checkout."""
    return segment(case, ROOT, dicom_folder(case.study), case.work / "ours")


def run_before(case: Case) -> Run:
    """Segment the study with the other checkout."""
    return segment(case, case.options.before.resolve(), dicom_folder(case.study), case.work / "before")


def run_warm(case: Case) -> Run:
    """Segment two copies of the study in one process; the steps are those of the second one."""
    pair = case.work / "pair"
    if not pair.is_dir():
        images = read_images(dicom_folder(case.study))
        for number in (1, 2):
            write_images(copies(images, number), pair / str(number))
    return segment(case, ROOT, pair, case.work / "warm")


def segment(case: Case, checkout: Path, dicom: Path, out: Path) -> Run:
    """Run `glionode segment`; of several studies the steps are those of the last."""
    used = measured([*GLIONODE, "segment", str(dicom), str(out), *case.arguments], checkout)
    latest = max(out.rglob("report.json"), key=lambda path: path.stat().st_mtime_ns)
    report = json.loads(latest.read_text())
    if report["status"] != "segmented":
        raise RowFailed(f"{report['status']}: {report['reason']}")
    start = datetime.fromisoformat(report["analysis_started_at"]).timestamp() - used["started"]
    return Run(report["device"], report["timings_s"], used["process_s"], used["cpu_s"], used["peak_mib"], start)


def run_plain(case: Case) -> Run:
    """Run the plain pipeline on the series that ours chose."""
    series, result = case.work / "series", case.work / "plain.json"
    if not series.is_dir():
        link_series(dicom_folder(case.study), case.report["roles"], series)
    device = "cuda" if case.report["device"].startswith("cuda") else "cpu"
    ours, out = case.work / "ours" / "seg-t1ce.dcm", case.work / "plain.dcm"
    command = [sys.executable, "-m", "benchmarks.plain_pipeline", *map(str, (series, ours, out))]
    command += ["--spacing", "3", "--roi", "64"] if case.options.small else []
    used = measured([*command, "--device", device, "--json", str(result)], ROOT)
    steps = json.loads(result.read_text())
    return Run(device, steps, used["process_s"], used["cpu_s"], used["peak_mib"])


def link_series(dicom: Path, roles: Mapping[str, Any], folder: Path) -> None:
    """Make a folder of links to the files of each chosen series. Raises RowFailed if one has fewer than two files."""
    of_series = {each["series_instance_uid"]: folder / role for role, each in roles.items()}
    for name, image in read_images(dicom).items():
        place = of_series.get(str(image.SeriesInstanceUID))
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            (place / name.replace("/", "-")).symlink_to((dicom / name).resolve())
    for role, place in zip(roles, of_series.values(), strict=True):
        if len(list(place.glob("*"))) < 2:
            raise RowFailed(f"the plain pipeline reads classic series only, and {role} is none")


def measure_floor(case: Case) -> None:
    """Measure the network's floor on the grid of the study."""
    command = [sys.executable, "-m", "benchmarks.network_floor", str(dicom_folder(case.study))]
    command += ["--device", "cuda" if case.report["device"].startswith("cuda") else "cpu"]
    if case.options.small:
        command += ["--small", "--model", "tiny", "--installed", str(case.work.parent / "models")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RowFailed(done.stderr[-500:])
    case.floor = json.loads(done.stdout)


def measured(command: list[str], checkout: Path) -> dict[str, float]:
    """Run a command with the code of a checkout and return what it used. Raises RowFailed if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    used: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if used["rc"]:
        raise RowFailed(done.stderr[-500:])
    return used


def best(runs: list[Run]) -> Run:
    """Return the run with the least total."""
    return min(runs, key=lambda run: run.steps_s["total"])


def ratios(case: Case) -> dict[str, float]:
    """Return the ratios that are goals, as far as their rows were measured."""
    rows = {row: best(runs) for row, runs in case.runs.items()}
    found = {}
    if "ours" not in rows:
        return {}
    ours = rows["ours"]
    if before := rows.get("before"):
        found["total, ours to before"] = ours.steps_s["total"] / before.steps_s["total"]
        found["align, ours to before"] = ours.steps_s["align"] / before.steps_s["align"]
        found["process, ours to before"] = ours.process_s / before.process_s
    if plain := rows.get("plain"):
        found["total, plain to ours"] = plain.steps_s["total"] / ours.steps_s["total"]
        found["process, plain to ours"] = plain.process_s / ours.process_s
    if case.floor:
        found["total, ours to one plain float32 pass"] = ours.steps_s["total"] / case.floor["plain_pass_s"]
        found["segment, ours to the floor"] = ours.steps_s["segment"] / case.floor["floor_s"]
    return {name: round(value, 3) for name, value in found.items()}


def as_json(case: Case) -> dict[str, Any]:
    """Return all that was measured of a case."""
    return {
        "study": case.name,
        "rows": {row: [asdict(run) for run in runs] for row, runs in case.runs.items()},
        "floor": case.floor,
        "ratios": ratios(case),
        "dice": case.dice,
        "failed": case.failed,
    }


def print_table(case: Case) -> None:
    """Print the best run of each row, the ratios and the Dice."""
    rows = {row: best(runs) for row, runs in case.runs.items()}
    print(f"{case.name}: least total of {case.options.repeats}, seconds")
    print("".join(f"{row:>12}" for row in ("", *rows)))
    steps = dict.fromkeys(step for run in rows.values() for step in run.steps_s if step != "total")
    for step in (*steps, "total"):
        values = (f"{run.steps_s[step]:.2f}" if step in run.steps_s else "" for run in rows.values())
        print(f"{step:>12}" + "".join(f"{value:>12}" for value in values))
    print(f"{'process':>12}" + "".join(f"{run.process_s:12.2f}" for run in rows.values()))
    starts = ("" if run.start_s is None else f"{run.start_s:.2f}" for run in rows.values())
    print(f"{'start':>12}" + "".join(f"{start:>12}" for start in starts))
    print(f"{'CPU':>12}" + "".join(f"{run.cpu_s:12.2f}" for run in rows.values()))
    print(f"{'peak MiB':>12}" + "".join(f"{run.peak_mib:12.0f}" for run in rows.values()))
    for row, run in rows.items():
        print(f"{row} on {run.device}")
    if case.floor:
        rates = ", ".join(f"{kind} {rate:.0f}" for kind, rate in case.floor["matrix_gflop_per_s"].items())
        work = f"{case.floor['gflop']:.0f} GFLOP on {case.floor['grid']}, matrix rate in GFLOP/s {rates}"
        print(
            f"floor {case.floor['floor_s']:.2f} s ({work}); one plain float32 pass {case.floor['plain_pass_s']:.2f} s"
        )
    for name, value in ratios(case).items():
        print(f"{name}: {value:.2f}")
    for other, dice in case.dice.items():
        print(f"Dice to {other}: " + ", ".join(f"{label} {value:.4f}" for label, value in dice.items()))
    for row, why in case.failed.items():
        print(f"{row} failed: {why}")


if __name__ == "__main__":
    main()
