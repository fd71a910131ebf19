"""Train on a data set with `glionode`'s loop and with a plain MONAI loop, in one run: steps a second, time for data.

    python -m benchmarks.train [DATASET] [--steps 40] [--patch 96] [--precision bf16-mixed] [--workers 0] [--json]

The same network, patch, precision, cases and processes on both sides, in turns. MONAI's loop is the one of its
tutorials: CacheDataset in memory, NormalizeIntensity per channel, random crops and flips, DataLoader, DiceCE loss in
sigmoid form, Adam. Ours also keeps logs; the ends of its epochs (validation, checkpoints) are not counted, as MONAI's
loop has none. Without DATASET, one of synthetic noise is made. Waiting is the share of time without a batch.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.labels import LABELS, Role
from models.network import NetworkSettings
from models.training.dataset.dataset import Case, Dataset, read_dataset
from models.training.dataset.manifest import Annotator, DatasetSource
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, NewCase
from models.training.train.dataset_cases import DatasetCases
from models.training.train.fit import TrainingProgress, train
from models.training.train.learner import fresh_network
from models.training.train.plan import Plan
from models.training.train.prepared_cases import View, prepared_cases
from models.training.train.settings import Cache, Preset, preset_settings
from pipeline.volume import Geometry

ROLES = (Role.ADC, Role.FLAIR, Role.T1CE)
NAMES = tuple(label.name for label in LABELS)
WARM_UP = 5
"""Steps that are not counted: kernels are chosen, workers start."""


def noise_dataset(folder: Path, cases: int, edge: int) -> Path:
    """Balls of noise with a ball of lesion; what a crop costs does not depend on what is in it."""
    writer = DatasetWriter(folder, DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
    grid = Geometry.axial((edge, edge, edge), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), "")
    distance = np.linalg.norm(np.stack(np.meshgrid(*(np.linspace(-1, 1, edge),) * 3, indexing="ij")), axis=0)
    for number in range(cases):
        generator = np.random.default_rng(number)
        channels = {
            role: ((distance < 0.9) * generator.normal(800, 90, distance.shape)).astype(np.float32) for role in ROLES
        }
        masks = {name: distance < 0.2 + 0.05 * place for place, name in enumerate(NAMES)}
        writer.add(NewCase(str(number), str(number), grid, channels, masks, dict.fromkeys(NAMES, Annotator.PERSON)))
    writer.finish(Shares(validation=1 / cases), seed=1)
    return folder


class Clock:
    """Steps a second and the share of waiting after the warm-up."""

    def __init__(self) -> None:
        self.steps, self._from, self._at_first, self._waited, self.seconds = 0, 0.0, 0.0, 0.0, 0.0
        self._latest = 0.0

    def step(self, waited_s: float) -> None:
        """A step is over, after having waited so long for its batch since the clock began."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self._latest = time.perf_counter()
        if self.steps == WARM_UP:
            self._from, self._at_first = now, waited_s
        elif self.steps > WARM_UP:
            self.seconds, self._waited = now - self._from, waited_s - self._at_first
        self.steps += 1

    def skip(self) -> None:
        """What passed since the last step is no step's."""
        now = time.perf_counter()
        self._from += now - self._latest
        self._latest = now

    def result(self) -> dict[str, float]:
        """In steps, and as shares."""
        counted = self.steps - WARM_UP - 1
        return {"steps_per_s": counted / self.seconds, "waiting": self._waited / self.seconds}


def ours(dataset: Dataset, wanted: argparse.Namespace, work: Path) -> dict[str, float]:
    """Steps of `glionode pretrain`, its checkpoints and logs included."""
    cases = dataset.cases[1:]
    view = View(ROLES, NAMES, dataset.spacing_mm)
    cache = Cache.DISK if wanted.workers else Cache.RAM
    settings = preset_settings(
        Preset(wanted.preset),
        -(-wanted.steps // len(cases)),
        patch=wanted.patch,
        precision=wanted.precision,
        workers=wanted.workers,
        cache=cache,
        batch=wanted.batch,
    )
    prepared = prepared_cases(cache, view, work / "cache")
    for case in cases:  # MONAI's cache is filled before the clock runs, too
        prepared(case)
    torch.manual_seed(1)
    source = DatasetCases(dataset, cases, dataset.cases[:1], prepared, view, settings)
    plan = Plan(source, wanted.network, settings.patch, settings)
    clock = Clock()

    def report(now: TrainingProgress) -> None:
        if now.ended is None:
            clock.step(now.waiting * now.seconds)
        else:
            clock.skip()

    train(plan, fresh_network(wanted.network, 3, 3), work, report)
    return clock.result()


def theirs(dataset: Dataset, wanted: argparse.Namespace) -> dict[str, float]:
    """The same steps in a plain loop of MONAI's parts."""
    from monai.data import CacheDataset, DataLoader
    from monai.losses.dice import DiceCELoss
    from monai.transforms import Compose, NormalizeIntensityd, RandFlipd, RandSpatialCropd, ToTensord

    class Read:
        def __call__(self, case: Case) -> dict[str, Any]:
            pixels = np.stack([case.volume(role).pixels for role in ROLES])
            return {"image": np.nan_to_num(pixels), "label": case.masks(NAMES).astype(np.float32)}

    keys = ["image", "label"]
    transforms = Compose(
        [
            Read(),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            RandSpatialCropd(keys, (wanted.patch,) * 3, random_size=False),
            RandFlipd(keys, prob=0.5, spatial_axis=2),
            ToTensord(keys),
        ]
    )
    data = CacheDataset(list(dataset.cases[1:]), transforms, progress=False, num_workers=1)
    loader = DataLoader(
        data, batch_size=wanted.batch, shuffle=True, num_workers=wanted.workers, persistent_workers=wanted.workers > 0
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    network = fresh_network(wanted.network, 3, 3).to(device)
    loss_of = DiceCELoss(sigmoid=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    half = wanted.precision == "bf16-mixed"
    clock, waited = Clock(), 0.0
    while clock.steps < wanted.steps:
        batches = iter(loader)
        while True:
            since = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - since
            if batch is None or clock.steps >= wanted.steps:
                break
            optimiser.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                found = network(batch["image"].as_tensor().to(device))
            loss_of(found.float(), batch["label"].as_tensor().to(device)).backward()
            optimiser.step()
            clock.step(waited)
    return clock.result()


def main() -> None:
    """Measure both, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--edge", type=int, default=128, help="of the synthetic cases, voxels")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--preset", default="paper", choices=["paper", "fast"])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--init-filters", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3, help="turns; medians are shown")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    wanted.network = NetworkSettings(init_filters=wanted.init_filters)
    with tempfile.TemporaryDirectory(prefix="glionode-train-") as folder:
        place = wanted.dataset or noise_dataset(Path(folder) / "set", 9, wanted.edge)
        dataset = read_dataset(place)
        turns = [
            (ours(dataset, wanted, Path(folder) / f"work{turn}"), theirs(dataset, wanted))
            for turn in range(wanted.repeats)
        ]
    results = {
        name: {key: statistics.median(turn[side][key] for turn in turns) for key in ("steps_per_s", "waiting")}
        for side, name in enumerate(("glionode", "monai"))
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    ratio = results["glionode"]["steps_per_s"] / results["monai"]["steps_per_s"]
    asked = {
        name: getattr(wanted, name) for name in ("steps", "patch", "batch", "precision", "workers", "init_filters")
    }
    if wanted.json:
        print(
            json.dumps(
                {"device": device, **asked, "preset": wanted.preset, "results": results, "ratio": ratio}, indent=1
            )
        )
        return
    print(f"{device}; {asked}", file=sys.stderr)
    print("| loop | steps/s | waiting for data |\n|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result['steps_per_s']:.2f} | {result['waiting']:.1%} |")
    print(f"\nglionode / monai: {ratio:.2f}")


if __name__ == "__main__":
    main()
