"""Measure what fine-tuning gains over training from scratch on the same small local set, with `glionode`'s commands.

    python -m benchmarks.transfer WORK [--general 24] [--local 10] [--test 16] [--epochs 12,40] [--spacing 2] [--json]

The cases are synthetic heads, of seeds that no other run uses: a large general set like BraTS (T2, FLAIR, T1CE without
skull; ET, TC, WT), a small local set as from DICOM (ADC, FLAIR, T1CE with skull, thick slices; the node's labels), and
unseen heads of the local kind for the test. The folder WORK keeps everything; existing sets are used again. The numbers
show that the commands work; they say nothing about patients' data.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from models.labels import PAPER_LABELS, Role
from models.training.dataset.manifest import Annotator, DatasetSource
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, NewCase
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tissue import Tissue
from models.training.synthetic.tumour import Variant
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from pipeline.resample import resample
from pipeline.volume import Geometry
from tests.support.programs import GLIONODE

GENERAL, LOCAL = (Role.T2, Role.FLAIR, Role.T1CE), (Role.ADC, Role.FLAIR, Role.T1CE)
NAMES = tuple(label.name for label in PAPER_LABELS)
CORE = (Tissue.ENHANCING, Tissue.NECROSIS, Tissue.NON_ENHANCING)
REGIONS = {"ET": (Tissue.ENHANCING,), "TC": CORE, "WT": (*CORE, Tissue.OEDEMA)}
BRAIN = (Tissue.WHITE, Tissue.GREY, Tissue.CSF, *REGIONS["WT"])
FIRST_SEED = 4_000_000
"""Above the seeds of bundled models' training, evaluation, demonstration and thresholds."""
VARIANTS = (Variant.UNIFOCAL, Variant.MULTIFOCAL, Variant.UNIFOCAL, Variant.NON_ENHANCING)
EXTENT_MM = (160, 208, 176)


RECIPE = 'patch = 0\nlearning_rate = 1e-3\ncache = "disk"\nthreads = 2\n'


@dataclass(frozen=True)
class Run:
    """The measurements of one command."""

    name: str
    seconds: float
    peak_mib: float
    seconds_per_epoch: float | None = None


def heads(first: int, count: int) -> list[SyntheticHead]:
    """Return heads of consecutive seeds from `first`, of all variants."""
    return [synthesise(first + number, VARIANTS[number % len(VARIANTS)], 1.5) for number in range(count)]


def axial(step_mm: tuple[float, float, float]) -> Geometry:
    """Return an axial grid over a whole head. `step_mm` is along slices, rows, columns."""
    shape = tuple(round(extent / step) for extent, step in zip(EXTENT_MM, step_mm, strict=True))
    return Geometry.axial((shape[0], shape[1], shape[2]), step_mm, (0.0, -4.0, 5.0), "")


def shares_of(head: SyntheticHead, tissues: tuple[tuple[Tissue, ...], ...], grid: Geometry) -> np.ndarray:
    """Return (tissues, slices, rows, columns) bool: the voxels of which each group of tissues fills at least half."""
    codes = torch.zeros((len(tissues), len(Tissue)))
    for number, members in enumerate(tissues):
        codes[number, list(members)] = 1
    tissue = torch.from_numpy(head.tissue).int()
    return np.asarray(resample(codes[:, tissue], head.geometry, grid).numpy() >= 0.5)


def write_general(folder: Path, count: int, spacing_mm: float) -> None:
    writer = DatasetWriter(folder, DatasetSource.BRATS, GENERAL, tuple(REGIONS), Pseudonyms(b"k" * 32))
    grid = axial((spacing_mm,) * 3)
    for head in heads(FIRST_SEED, count):
        brain, *masks = shares_of(head, (BRAIN, *REGIONS.values()), grid)
        channels = {role: head.acquire(role, grid, None, 0).pixels * brain for role in GENERAL}
        annotators = dict.fromkeys(REGIONS, Annotator.PERSON)
        name = str(head.seed)
        writer.add(NewCase(name, name, grid, channels, dict(zip(REGIONS, masks, strict=True)), annotators))
    writer.finish(Shares(validation=0.25), seed=1)


def write_local(folder: Path, first: int, count: int, spacing_mm: float, shares: Shares) -> None:
    writer = DatasetWriter(folder, DatasetSource.DICOM, LOCAL, NAMES, Pseudonyms(b"k" * 32))
    geometries = {Role.T1CE: axial((1.5, 1.5, 1.5)), Role.FLAIR: axial((5, 1.5, 1.5)), Role.ADC: axial((5, 2.0, 2.0))}
    for head in heads(first, count):
        volumes = {role: head.acquire(role, geometry, None, 1) for role, geometry in geometries.items()}
        aligned = align(volumes, LOCAL, spacing_mm, 8, torch.device("cpu"), AlignSettings(enabled=False))
        channels = {role: pixels.numpy() for role, pixels in zip(LOCAL, aligned.channels, strict=True)}
        masks = dict(zip(NAMES, head.truth(aligned.grid), strict=True))
        name = str(head.seed)
        writer.add(NewCase(name, name, aligned.grid, channels, masks, dict.fromkeys(NAMES, Annotator.PERSON)))
    writer.finish(shares, seed=1)


def run(name: str, work: Path, epochs: int | None, *arguments: str) -> Run:
    """Run `glionode` in the folder `work`, with its log in `name`.log there. Exits if it fails."""
    started = time.monotonic()
    with (work / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([*GLIONODE, *arguments], cwd=work, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"glionode {arguments[0]} failed; {log.name} says why")
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return Run(name, seconds, usage.ru_maxrss / 1024, seconds / epochs if epochs else None)


def read_dice(evaluation: Path) -> dict[str, float]:
    """Return the mean Dice of each label."""
    labels = json.loads((evaluation / "evaluation.json").read_text())["labels"]
    return {name: label["metrics"]["dice"]["mean"] for name, label in labels.items()}


def main() -> None:
    """Write the data sets, train, evaluate, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--general", type=int, default=24)
    parser.add_argument("--local", type=int, default=10)
    parser.add_argument("--test", type=int, default=16)
    parser.add_argument("--epochs", default="12,40", help="to pretrain, and to fine-tune or train from scratch")
    parser.add_argument("--spacing", type=float, default=2.0, help="edge of the network's voxels, mm")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "brats" / "dataset.json").is_file():
        write_general(work / "brats", options.general, options.spacing)
        write_local(work / "local", FIRST_SEED + 1000, options.local, options.spacing, Shares(validation=0.3))
        write_local(work / "unseen", FIRST_SEED + 2000, options.test, options.spacing, Shares(validation=0))
    many, few = (int(word) for word in options.epochs.split(","))
    recipe = ("--preset", "fast", "--config", "recipe.toml")
    (work / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    shape = ("--init-filters", "8")
    runs = [
        run("general", work, many, "pretrain", "brats", "general", *recipe, *shape, "--epochs", str(many)),
        run("tuned", work, few, "finetune", "local", "tuned", "--from", "general", *recipe, "--epochs", str(few)),
        run("scratch", work, few, "pretrain", "local", "scratch", *recipe, *shape, "--epochs", str(few)),
    ]
    scores = {}
    for name in ("tuned", "scratch"):
        out = f"{name}-evaluation"
        run(out, work, None, "evaluate", name, "unseen", out, "--split", "all")
        scores[name] = read_dice(work / out)
    if options.json:
        print(json.dumps({"runs": [asdict(each) for each in runs], "mean_dice": scores}, indent=1))
        return
    print(f"{'':10}{'s':>8}{'s/epoch':>9}{'peak MiB':>10}")
    for each in runs:
        print(f"{each.name:10}{each.seconds:8.0f}{each.seconds_per_epoch or 0:9.1f}{each.peak_mib:10.0f}")
    print(f"\n{'mean Dice':22}{'fine-tuned':>12}{'from scratch':>14}{'gain':>8}")
    for name in NAMES:
        tuned, scratch = scores["tuned"][name], scores["scratch"][name]
        print(f"{name:22}{tuned:12.3f}{scratch:14.3f}{tuned - scratch:+8.3f}")


if __name__ == "__main__":
    main()
