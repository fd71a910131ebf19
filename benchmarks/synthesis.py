"""Measure the cost of synthetic training samples: generating a head, augmenting it, and the stream of both.

    python -m benchmarks.synthesis [--heads 6] [--spacing 1.25] [--threads 2] [--json]

At 1.25 mm a sample has about as many voxels as a cube of 160. "New" is a sample of a new head; "stream" is the mean
over the batches of `HeadSamples`, which augments each head several times and uses every sample in two batches.
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
    """Return medians over the heads of a family, without the first, which includes one-time loading."""
    generate, augmented, voxels = [], [], []
    for number in range(heads + 1):
        since = time.perf_counter()
        head = synthesise(number, VARIANTS[number % len(VARIANTS)], 1.25, family)
        generate.append(time.perf_counter() - since)
        sample = augment(head, np.random.default_rng(number), spacing_mm)
        augmented.append(time.perf_counter() - since - generate[-1])
        voxels.append(sample.channels[0].numel())
    new = [a + b for a, b in zip(generate[1:], augmented[1:], strict=True)]
    return {
        "generate_s": statistics.median(generate[1:]),
        "augment_s": statistics.median(augmented[1:]),
        "new_s": statistics.median(new),
        "voxel_edge": float(np.cbrt(statistics.median(voxels[1:]))),
    }


def main() -> None:
    """Measure all families and the stream, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=6, help="heads per family")
    parser.add_argument("--spacing", type=float, default=1.25, help="edge of a sample's voxels, mm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {family.value: measure(family, arguments.heads, arguments.spacing) for family in Family}
    count = 4 * arguments.heads
    stream = iter(HeadSamples(1, replace(SampleSettings(), spacing_mm=arguments.spacing, whole=1.0)))
    list(itertools.islice(stream, 8))  # the pool starts with new heads only
    since = time.perf_counter()
    list(itertools.islice(stream, count))
    seconds = time.perf_counter() - since
    document = {"threads": arguments.threads, "families": results, "stream_s": seconds / count}
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{'family':<10} {'generate s':>10} {'augment s':>10} {'new s':>8} {'voxels':>8}")
    for name, values in results.items():
        row = f"{values['generate_s']:10.2f} {values['augment_s']:10.2f} {values['new_s']:8.2f}"
        print(f"{name:<10} {row} {values['voxel_edge']:7.0f}^3")
    print(f"stream: {document['stream_s']:.2f} s a sample on {arguments.threads} threads")


if __name__ == "__main__":
    main()
