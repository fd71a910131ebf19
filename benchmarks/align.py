"""Measure how fast and how well FLAIR and ADC are aligned with T1CE, against known motions of whole heads.

    python -m benchmarks.align [--motions 40] [--far 0] [--engines torch,simpleitk,usual] [--before TREE]
                               [--trial STUDY] [--real FOLDER] [--device cpu] [--json FILE]

Two in three of `--motions` go up to 8 degrees and 10 mm, the third up to 20 degrees and 30 mm. Of `--far`, up to 25
degrees and 60 mm, every second has other frames of reference. They are spread over phantoms and the trial study. Rows
are the align step of the node with each of its engines, registration and resampling with SimpleITK's usual settings
(on all of its threads), and the step of another checkout, in turns in one run. Errors are means over the head; one
above 2 mm is wrong and counts in the errors, a series that is refused does not. The real heads of FOLDER, each with a
folder `dicom`, stand on one grid, so that the identity is the truth.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.known_motions import (
    ELSEWHERE,
    FAR,
    LARGE,
    MOVING,
    PHANTOMS,
    SMALL,
    Head,
    phantom,
    trial_study,
    unmoved_study,
)
from benchmarks.machine import describe_machine
from tests.support.paths import ROOT

WRONG_MM = 2.0
DATA = ROOT.parent / "shared" / "data"
CONTESTANT = ROOT / "benchmarks" / "align_contestant.py"


@dataclass(frozen=True)
class Trial:
    """What one contestant made of one motion of one head."""

    contestant: str
    head: str
    kind: str
    number: int
    seconds: float
    error_mm: dict[str, float | None]
    """For each role; None where it was refused."""
    refusals: dict[str, str]


class Contestant:
    """A process that aligns heads with the code of one tree."""

    def __init__(self, tree: Path, engine: str, device: str) -> None:
        command = [sys.executable, "-P", str(CONTESTANT), engine, device]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.engine: str | None = self._answer()

    def align(self, head: Head) -> tuple[float, dict[str, Any]]:
        """Return the seconds, and for each role the matrix or why there is none."""
        assert self._process.stdin is not None
        volumes = {
            role.value: (each.pixels, each.geometry.affine, each.geometry.frame_of_reference_uid)
            for role, each in head.volumes.items()
        }
        pickle.dump(volumes, self._process.stdin)
        self._process.stdin.flush()
        seconds, outcome = self._answer()
        return seconds, outcome

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motions", type=int, default=40)
    parser.add_argument("--far", type=int, default=0)
    parser.add_argument("--engines", default="torch,simpleitk,usual")
    parser.add_argument("--before", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument("--trial", type=Path, default=DATA / "semireal" / "siemens-unifocal")
    parser.add_argument("--real", type=Path, default=DATA / "real-tumour")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        trees = [(engine, ROOT, engine) for engine in options.engines.split(",")]
        trees += [("before", options.before.resolve(), "torch")] if options.before else []
        for name, tree, engine in trees:
            contestant = stack.enter_context(Contestant(tree, engine, options.device))
            if contestant.engine is not None or name in {"before", "simpleitk"}:  # a tree without the setting has one
                contestants[name] = contestant
        trials = list(measure(contestants, options.motions, options.far, options.trial, options.real))
    print_trials(trials)
    print_unmoved(trials)
    if options.json:
        document = {"machine": describe_machine(), "trials": [asdict(each) for each in trials]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def measure(contestants: dict[str, Contestant], motions: int, far: int, trial: Path, real: Path) -> Iterator[Trial]:
    """Give each moved head to every contestant."""
    makers: list[Callable[[], Head]] = [cache(lambda pick=pick: phantom(*pick)) for pick in PHANTOMS]
    makers += [cache(lambda: trial_study(trial))] if trial.is_dir() else []
    folders = sorted(path for path in real.glob("*") if (path / "dicom").is_dir())
    jobs = [(LARGE if number % 3 == 2 else SMALL, number) for number in range(motions)]
    jobs += [(ELSEWHERE if number % 2 else FAR, number // 2) for number in range(far)]
    for contestant in contestants.values() if jobs else ():
        contestant.align(makers[0]())  # what is loaded and compiled once does not count
    for place, (kind, number) in enumerate(jobs):
        yield from run(contestants, makers[place % len(makers)]().moved(kind, number), kind.name, number)
    for number, folder in enumerate(folders):
        yield from run(contestants, unmoved_study(folder), "unmoved", number)


def run(contestants: dict[str, Contestant], head: Head, kind: str, number: int) -> Iterator[Trial]:
    """Give one head to every contestant."""
    for name, contestant in contestants.items():
        seconds, found = contestant.align(head)
        refusals = {role: why for role, why in found.items() if isinstance(why, str)}
        error = {
            role.value: None if role.value in refusals else head.error_mm(role, found[role.value]) for role in MOVING
        }
        result = Trial(name, head.name, kind, number, seconds, error, refusals)
        print(result, file=sys.stderr, flush=True)
        yield result


def print_trials(trials: list[Trial]) -> None:
    """Print seconds and errors of every contestant, for each kind of motion."""
    head = f"{'':<12}{'':<13}{'seconds':>8}"
    for role in MOVING:
        head += f"   {role.value + ', mm: median':>18}{'95 %':>7}{'max':>7}{'refused':>9}{'wrong':>7}"
    print(head)
    for kind in (SMALL, LARGE, None, FAR, ELSEWHERE):
        kinds = {SMALL.name, LARGE.name} if kind is None else {kind.name}
        for name in dict.fromkeys(each.contestant for each in trials):
            these = [each for each in trials if each.contestant == name and each.kind in kinds]
            if these:
                print(row("both" if kind is None else kind.name, name, these))


def row(kind: str, name: str, trials: list[Trial]) -> str:
    """Return one contestant's line."""
    line = f"{kind:<12}{name:<13}{np.median([each.seconds for each in trials]):>8.2f}"
    for role in MOVING:
        errors = [each.error_mm[role.value] for each in trials]
        kept = np.array([error for error in errors if error is not None])
        middle, high, most = np.percentile(kept, (50, 95, 100)) if len(kept) else (np.nan, np.nan, np.nan)
        line += f"   {middle:>18.3f}{high:>7.3f}{most:>7.2f}{errors.count(None):>9}{(kept > WRONG_MM).sum():>7}"
    return line


def print_unmoved(trials: list[Trial]) -> None:
    """Print how far each real series was moved, though nothing had moved."""
    rows = [each for each in trials if each.kind == "unmoved"]
    if rows:
        print(f"\n{'nothing moved':<28}{'':<13}" + "".join(f"{role.value + ', mm':>11}" for role in MOVING))
    for each in rows:
        moved = ["refused" if error is None else f"{error:.2f}" for error in each.error_mm.values()]
        print(f"{each.head:<28}{each.contestant:<13}" + "".join(f"{text:>11}" for text in moved))


if __name__ == "__main__":
    main()
