"""Compare the training loop with a plain MONAI loop on the same data set, in one run: steps per second, time for data.

    python -m benchmarks.train [DATASET] [--steps 40] [--patch 96] [--precision bf16-mixed] [--workers 0] [--json]

Both sides use the same network, patch, precision, cases and processes, and take turns. MONAI's loop is the one of its
tutorials: CacheDataset in memory, NormalizeIntensity per channel, random crops and flips, DataLoader, DiceCE loss in
sigmoid form, Adam. Ours also keeps logs; the ends of its epochs (validation, checkpoints) are not counted, as MONAI's
loop has none. Without DATASET, a data set of noise is made. "Waiting" is the share of time without a batch.
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

from models.labels import PAPER_LABELS, Role
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
NAMES = tuple(label.name for label in PAPER_LABELS)
WARM_UP = 5
"""Steps that are not counted: kernels are chosen, workers start."""


def noise_dataset(folder: Path, cases: int, edge: int) -> Path:
    """Write balls of noise with a ball of lesion; what a crop costs does not depend on its content."""
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
    """Measures the steps per second and the share of waiting after the warm-up."""

    def __init__(self) -> None:
        self.steps, self._start, self._waited_at_start, self._waited, self.seconds = 0, 0.0, 0.0, 0.0, 0.0
        self._latest = 0.0

    def step(self, waited_s: float) -> None:
        """Count a step. `waited_s` is the time waited for batches since the start, in seconds."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = self._latest = time.perf_counter()
        if self.steps == WARM_UP:
            self._start, self._waited_at_start = now, waited_s
        elif self.steps > WARM_UP:
            self.seconds, self._waited = now - self._start, waited_s - self._waited_at_start
        self.steps += 1

    def skip(self) -> None:
        """Leave out the time since the last step."""
        now = time.perf_counter()
        self._start += now - self._latest
        self._latest = now

    def result(self) -> dict[str, float]:
        """Return the steps per second and the share of time without a batch."""
        counted = self.steps - WARM_UP - 1
        return {"steps_per_s": counted / self.seconds, "waiting": self._waited / self.seconds}


def measure_glionode(dataset: Dataset, options: argparse.Namespace, work: Path) -> dict[str, float]:
    """Measure the loop of `glionode pretrain`, with its checkpoints and logs."""
    cases = dataset.cases[1:]
    view = View(ROLES, NAMES, dataset.spacing_mm)
    cache = Cache.DISK if options.workers else Cache.RAM
    settings = preset_settings(
        Preset(options.preset),
        -(-options.steps // len(cases)),
        patch=options.patch,
        precision=options.precision,
        workers=options.workers,
        cache=cache,
        batch=options.batch,
    )
    prepared = prepared_cases(cache, view, work / "cache")
    for case in cases:  # MONAI's cache is filled before the clock runs, too
        prepared(case)
    torch.manual_seed(1)
    source = DatasetCases(dataset, cases, dataset.cases[:1], prepared, view, settings)
    plan = Plan(source, options.network, settings.patch, settings)
    clock = Clock()

    def report(now: TrainingProgress) -> None:
        if now.ended is None:
            clock.step(now.waiting * now.seconds)
        else:
            clock.skip()

    train(plan, fresh_network(options.network, 3, 3), work, report)
    return clock.result()


def measure_monai(dataset: Dataset, options: argparse.Namespace) -> dict[str, float]:
    """Measure the same steps in a plain loop of MONAI's parts."""
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
            RandSpatialCropd(keys, (options.patch,) * 3, random_size=False),
            RandFlipd(keys, prob=0.5, spatial_axis=2),
            ToTensord(keys),
        ]
    )
    data = CacheDataset(list(dataset.cases[1:]), transforms, progress=False, num_workers=1)
    loader = DataLoader(
        data,
        batch_size=options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    network = fresh_network(options.network, 3, 3).to(device)
    loss_of = DiceCELoss(sigmoid=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    half = options.precision == "bf16-mixed"
    clock, waited = Clock(), 0.0
    while clock.steps < options.steps:
        batches = iter(loader)
        while True:
            since = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - since
            if batch is None or clock.steps >= options.steps:
                break
            optimiser.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                found = network(batch["image"].as_tensor().to(device))
            loss_of(found.float(), batch["label"].as_tensor().to(device)).backward()
            optimiser.step()
            clock.step(waited)
    return clock.result()


def main() -> None:
    """Measure both loops, and print a table or JSON."""
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
    options = parser.parse_args()
    options.network = NetworkSettings(init_filters=options.init_filters)
    with tempfile.TemporaryDirectory(prefix="glionode-train-") as folder:
        place = options.dataset or noise_dataset(Path(folder) / "set", 9, options.edge)
        dataset = read_dataset(place)
        turns = [
            (measure_glionode(dataset, options, Path(folder) / f"work{turn}"), measure_monai(dataset, options))
            for turn in range(options.repeats)
        ]
    results = {
        name: {key: statistics.median(turn[side][key] for turn in turns) for key in ("steps_per_s", "waiting")}
        for side, name in enumerate(("glionode", "monai"))
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    ratio = results["glionode"]["steps_per_s"] / results["monai"]["steps_per_s"]
    given = {
        name: getattr(options, name) for name in ("steps", "patch", "batch", "precision", "workers", "init_filters")
    }
    if options.json:
        print(
            json.dumps(
                {"device": device, **given, "preset": options.preset, "results": results, "ratio": ratio}, indent=1
            )
        )
        return
    print(f"{device}; {given}", file=sys.stderr)
    print("| loop | steps/s | waiting for data |\n|---|---|---|")
    for name, result in results.items():
        print(f"| {name} | {result['steps_per_s']:.2f} | {result['waiting']:.1%} |")
    print(f"\nglionode / monai: {ratio:.2f}")


if __name__ == "__main__":
    main()
