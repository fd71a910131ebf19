"""What a synthetic training sample costs: painting a head, dressing it, and both as the stream of samples mixes them.

    python -m benchmarks.synthesis [--heads 6] [--spacing 1.25] [--threads 2] [--json]

At 1.25 mm a sample has about as many voxels as a cube of 160. "New" is a sample of a new head; "stream" is the mean
over the samples of `HeadSamples`, which dresses each head several times and hands out every dressing twice.
"""

import argparse
import itertools
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from models.training.synthetic.augment import augment
from models.training.synthetic.families import Family
from models.training.synthetic.head import synthesise
from models.training.synthetic.samples import HeadSamples, SampleSettings
from models.training.synthetic.tumour import Variant

VARIANTS = (Variant.UNIFOCAL, Variant.MULTIFOCAL, Variant.RESECTED)


def measure(family: Family, heads: int, spacing_mm: float) -> dict[str, float]:
    """Medians over heads of one family; the first, which loads what a process loads once, does not count."""
    paint, dressed, voxels = [], [], []
    for number in range(heads + 1):
        since = time.perf_counter()
        head = synthesise(number, VARIANTS[number % len(VARIANTS)], 1.25, family)
        paint.append(time.perf_counter() - since)
        sample = augment(head, np.random.default_rng(number), spacing_mm)
        dressed.append(time.perf_counter() - since - paint[-1])
        voxels.append(sample.channels[0].numel())
    new = [a + b for a, b in zip(paint[1:], dressed[1:], strict=True)]
    return {
        "paint_s": statistics.median(paint[1:]),
        "dress_s": statistics.median(dressed[1:]),
        "new_s": statistics.median(new),
        "voxel_edge": float(np.cbrt(statistics.median(voxels[1:]))),
    }


def main() -> None:
    """Measure the families and the stream, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=6, help="of each family")
    parser.add_argument("--spacing", type=float, default=1.25, help="edge of a sample's voxels, mm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    results = {family.value: measure(family, wanted.heads, wanted.spacing) for family in Family}
    count = 4 * wanted.heads
    stream = iter(HeadSamples(1, replace(SampleSettings(), spacing_mm=wanted.spacing, whole=1.0)))
    list(itertools.islice(stream, 8))  # the pool begins with new heads alone
    since = time.perf_counter()
    list(itertools.islice(stream, count))
    seconds = time.perf_counter() - since
    document = {"threads": wanted.threads, "families": results, "stream_s": seconds / count}
    if wanted.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{'family':<10} {'paint s':>8} {'dress s':>8} {'new s':>8} {'voxels':>8}")
    for name, values in results.items():
        row = " ".join(f"{values[key]:8.2f}" for key in ("paint_s", "dress_s", "new_s"))
        print(f"{name:<10} {row} {values['voxel_edge']:7.0f}^3")
    print(f"stream: {document['stream_s']:.2f} s a sample on {wanted.threads} threads")


if __name__ == "__main__":
    main()
