"""Measure parts of a case, and a step of training, on a device. benchmarks/gpu.sh runs them all.

    python -m benchmarks.device align STUDY --device cuda [--json FILE]
    python -m benchmarks.device network --device cuda [--small] [--json FILE]
    python -m benchmarks.device compiled --device cuda [--small] [--json FILE]
    python -m benchmarks.device training --device cuda [--small] [--json FILE]

`align`: seconds of the step on the CPU and on the device, first and again, and how far the two lie apart. `network`: a
pass of the bundled model's network, plain float32, in autocast to bfloat16 with the channels last, and as the worker
runs it; with the share of voxels whose sign is another one than in float32. `compiled`: the same by `torch.compile`,
and the seconds of its first pass. `training`: a step (forward, loss, backward, Adam) of the paper's preset, in float32
and in bfloat16. Seconds are the least of several. On a GPU, its peak memory stands beside each.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.machine import describe_device, describe_machine
from benchmarks.network_floor import SMALL_GRID, best_s
from benchmarks.studies import dicom_folder, read_volumes

GRID = (256, 256, 176)
"""That of a sagittal T1CE with voxels of 1 mm."""
EDGE, SMALL_EDGE = 128, 32
"""Of the crops in training."""


def main() -> None:
    """Measure one part and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("study", nargs="?", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    result = PARTS[options.part](device, options)
    document = {"machine": describe_machine(), "device": describe_device(device), **result}
    text = json.dumps(document, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    print(text, end="")


def measure_align(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Align one study on the CPU and on the device, twice each."""
    from models.package import find_package
    from pipeline.align import align

    package = find_package("phantom-demo", None)
    volumes = read_volumes(dicom_folder(options.study), package.channels)
    took: dict[str, list[float]] = {}
    matrices: dict[str, dict[str, Any]] = {}
    for place in dict.fromkeys((torch.device("cpu"), device)):
        for _ in range(2):
            started = time.perf_counter()
            aligned = align(volumes, package.channels, package.spacing_mm, package.network.stride, place)
            wait_for(place)
            took.setdefault(str(place), []).append(time.perf_counter() - started)
        matrices[str(place)] = {each.role.value: np.array(each.matrix) for each in aligned.alignments}
    corners = np.array([[x, y, z, 1.0] for x in (-70, 70) for y in (-90, 90) for z in (-60, 80)]).T
    there = matrices[str(device)]
    apart = {
        role: float(np.linalg.norm(((matrix - there[role]) @ corners)[:3], axis=0).max())
        for role, matrix in matrices["cpu"].items()
    }
    return {"seconds": took, "farthest_apart_mm": apart}


def measure_network(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a pass in float32, in bfloat16, and as the worker runs it."""
    from plugin.worker.warm_model import warm_model

    model, volume = warm_model("phantom-demo", None), random_volume(device, options)
    plain = plain_network(device)
    passes: dict[str, Callable[[], Tensor]] = {
        "float32": lambda: plain(volume),
        "bfloat16": in_bfloat16(device, volume),
        "worker": lambda: model.on(device)(volume),
    }
    return {"grid": list(volume.shape[2:]), **measure_passes(device, passes)}


def measure_compiled(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Measure passes of the compiled network in bfloat16; with --small nothing is generated, only traced."""
    volume = random_volume(device, options)
    passes: dict[str, Callable[[], Tensor]] = {"bfloat16": in_bfloat16(device, volume)}
    backend = "aot_eager" if options.small else "inductor"
    started = time.perf_counter()
    compiled = in_bfloat16(device, volume, lambda network: torch.compile(network, backend=backend))
    with torch.inference_mode():
        compiled()
    wait_for(device)
    first_s = time.perf_counter() - started
    result = measure_passes(device, passes | {"compiled": compiled})
    return {"grid": list(volume.shape[2:]), "backend": backend, "first_pass_s": first_s, **result}


def measure_training(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a step of training in float32 and in bfloat16."""
    from models.labels import PAPER_LABELS
    from models.network import NetworkSettings
    from models.training.train.learner import fresh_network
    from models.training.train.loss import training_loss
    from models.training.train.settings import Preset, preset_settings

    edge, settings = SMALL_EDGE if options.small else EDGE, preset_settings(Preset.PAPER, 1)
    labels = tuple(label.name for label in PAPER_LABELS)
    channels = torch.randn(1, 3, edge, edge, edge, device=device)
    truth = (torch.rand(1, 3, edge, edge, edge, device=device) > 0.99).float()
    torch.manual_seed(1)
    network = fresh_network(NetworkSettings(), 3, 3).to(device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)

    def step(half: bool) -> float:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = network(channels)
        known = torch.ones(len(truth), len(labels), dtype=torch.bool, device=truth.device)
        loss, _ = training_loss(logits.float(), truth, known, labels, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    seconds, peaks = {}, {}
    for name, half in (("float32", False), ("bfloat16", True)):
        reset_peak(device)
        took = []
        for _ in range(3 if options.small else 6):
            started = time.perf_counter()
            step(half)
            wait_for(device)
            took.append(time.perf_counter() - started)
        seconds[name], peaks[name] = min(took[1:]), peak_mib(device)
    return {"edge": edge, "seconds": seconds, "peak_mib": peaks}


def random_volume(device: torch.device, options: argparse.Namespace) -> Tensor:
    """Return a batch of one volume of noise, (1, channels, slices, rows, columns), on the device."""
    torch.manual_seed(1)
    return torch.randn(1, 3, *(SMALL_GRID if options.small else GRID)).to(device)


def plain_network(device: torch.device) -> nn.Module:
    """Return the bundled model's network, float32, on the device."""
    from models.package import find_package
    from models.weights import load_network

    return load_network(find_package("phantom-demo", None)).to(device)


def in_bfloat16(
    device: torch.device, volume: Tensor, prepare: Callable[[nn.Module], Callable[[Tensor], Tensor]] | None = None
) -> Callable[[], Tensor]:
    """Return a pass in autocast to bfloat16 with the channels last, of the network as `prepare` returns it."""
    network = plain_network(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    run, batch = prepare(network) if prepare else network, volume.to(memory_format=torch.channels_last_3d)

    def one_pass() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return run(batch)

    return one_pass


def measure_passes(device: torch.device, passes: dict[str, Callable[[], Tensor]]) -> dict[str, Any]:
    """Return the seconds and the peak memory of each pass, and how its signs differ from those of the first one."""
    seconds, peaks, flips = {}, {}, {}
    reference = None
    for name, one_pass in passes.items():
        reset_peak(device)
        seconds[name] = best_s(one_pass, device, 3)
        peaks[name] = peak_mib(device)
        with torch.inference_mode():
            positive = one_pass() > 0
        reference = positive if reference is None else reference
        flips[name] = float((positive != reference).float().mean())
    return {"seconds": seconds, "peak_mib": peaks, "signs_changed": flips}


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak(device: torch.device) -> None:
    """Begin to measure the peak of a GPU's memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float | None:
    """Return the peak of a GPU's memory; None for a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


PARTS = {
    "align": measure_align,
    "network": measure_network,
    "compiled": measure_compiled,
    "training": measure_training,
}


if __name__ == "__main__":
    main()
