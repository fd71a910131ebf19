"""How fast the network could be on this machine: its arithmetic over the measured rate of matrix products.

    python -m benchmarks.network_floor STUDY [--model NAME] [--device cpu] [--small]

PyTorch's own counter counts the GFLOP of the served model's passes over the grid of a study (two with `mirror`). The
rate is that of a product of square matrices in bfloat16 and in float32, the best of several. Their quotient, with the
higher rate, is a floor that nothing reaches: memory takes time, too. Beside it stands one eager float32 pass of the
plain SegResNet of 16 filters on 144 x 184 x 152 voxels. `--small` takes 48 voxels cubed and small matrices. Prints
JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_pipeline import plain_network
from benchmarks.studies import read_volumes
from models.package import ModelPackage
from models.weights import load_network
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from plugin.sources.served_model import served_package

PLAIN_GRID = (144, 184, 152)
SMALL_GRID = (48, 48, 48)


def main() -> None:
    """Measure the arithmetic of a pass and the rate of matrix products, and print both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--model", default="phantom-demo")
    parser.add_argument("--installed", type=Path, help="folder of installed models")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    package = served_package(options.model, options.installed)
    shape = grid_of(options.study, package)
    passes = 2 if package.mirror else 1
    gflop = passes * count_gflop(load_network(package), (1, package.network_channels, *shape))
    edge = 512 if options.small else 2048 if device.type == "cpu" else 8192
    rates = {name: matrix_gflops(edge, kind, device) for name, kind in DTYPES.items()}
    plain = SMALL_GRID if options.small else PLAIN_GRID
    print(
        json.dumps(
            {
                "grid": shape,
                "passes": passes,
                "gflop": gflop,
                "matrix_gflop_per_s": rates,
                "floor_s": gflop / max(rates.values()),
                "plain_grid": plain,
                "plain_pass_s": plain_pass_s(plain, device),
            }
        )
    )


DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def grid_of(study: Path, package: ModelPackage) -> tuple[int, int, int]:
    """Return the grid, (slices, rows, columns), on which a study is segmented."""
    # The grid depends on T1CE alone, so that no series needs to be registered.
    settings, cpu = AlignSettings(enabled=False), torch.device("cpu")
    volumes = read_volumes(study, package.channels)
    return align(volumes, package.channels, package.spacing_mm, package.network.stride, cpu, settings).grid.shape


def count_gflop(network: nn.Module, shape: Sequence[int]) -> float:
    """Return the GFLOP of a pass over a tensor of `shape`; nothing is computed."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.to("meta")(torch.empty(*shape, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def matrix_gflops(edge: int, kind: torch.dtype, device: torch.device) -> float:
    """Return the GFLOP per second of a product of two square matrices."""
    one, other = (torch.randn(edge, edge, device=device).to(kind) for _ in range(2))
    return 2.0 * edge**3 / best_s(lambda: torch.mm(one, other), device, 10) / 1e9


def plain_pass_s(shape: Sequence[int], device: torch.device) -> float:
    """Return the seconds of a pass of the plain SegResNet, float32 and eager."""
    network, volume = plain_network().to(device), torch.randn(1, 3, *shape, device=device)
    return best_s(lambda: network(volume), device, 2)


def best_s(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the least seconds of several calls after a first one."""
    took = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took.append(time.perf_counter() - started)
    return min(took[1:])


if __name__ == "__main__":
    main()
