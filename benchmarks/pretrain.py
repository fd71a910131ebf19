"""Measure a step of training on synthetic heads on this CPU, by memory layout and by what happens to freed memory.

    python -m benchmarks.pretrain [--steps 4] [--edge 176] [--filters 16] [--threads 2] [--json]

Each variant runs in a process of its own, in turns, on noise of the size of a whole head: forward in bfloat16, loss,
backward, one step of Adam. "Kept" is `models.malloc`; training keeps memory and leaves channels first.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time

import torch

from models.labels import PAPER_LABELS
from models.malloc import keep_freed_memory
from models.network import NetworkSettings
from models.training.train.learner import fresh_network
from models.training.train.loss import training_loss
from models.training.train.settings import Preset, preset_settings

TURNS = 2
VARIANTS = tuple(itertools.product((False, True), (False, True)))


def seconds_a_step(steps: int, edge: int, filters: int, last: bool) -> float:
    """Return the median over the steps after a first one, in which kernels are chosen."""
    settings, labels = preset_settings(Preset.SYNTHETIC, 1), tuple(label.name for label in PAPER_LABELS)
    network = fresh_network(NetworkSettings(init_filters=filters, space_to_depth=2), 3, 3)
    if last:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    channels, truth = torch.randn(1, 3, edge, edge, edge), (torch.rand(1, 3, edge, edge, edge) > 0.99).float()
    took = []
    for _ in range(steps + 1):
        since = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(channels)
        known = torch.ones(len(truth), len(labels), dtype=torch.bool)
        training_loss(logits.float(), truth, known, labels, settings)[0].backward()
        optimiser.step()
        took.append(time.perf_counter() - since)
    return statistics.median(took[1:])


def main() -> None:
    """Measure all variants in turns, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--edge", type=int, default=176, help="voxels; a multiple of 16")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant is not None:
        kept, last = json.loads(options.variant)
        torch.set_num_threads(options.threads)
        if kept and not keep_freed_memory():
            sys.exit("This C library is not glibc; memory cannot be kept.")
        print(seconds_a_step(options.steps, options.edge, options.filters, last))
        return
    took: dict[tuple[bool, bool], list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(TURNS):
        for variant in VARIANTS:
            call = [sys.executable, "-m", "benchmarks.pretrain", *sys.argv[1:], "--variant", json.dumps(variant)]
            took[variant].append(float(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout))
    plain = min(took[VARIANTS[0]])
    rows = [
        {"kept": kept, "channels_last": last, "step_s": round(min(times), 2), "of_plain": round(min(times) / plain, 2)}
        for (kept, last), times in took.items()
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("| freed memory | channels | s a step | of the first |\n|---|---|---|---|")
    for row in rows:
        names = ("kept" if row["kept"] else "given back", "last" if row["channels_last"] else "first")
        print(f"| {names[0]} | {names[1]} | {row['step_s']} | {row['of_plain']} |")


if __name__ == "__main__":
    main()
