"""The parts that are measured on a device do the work of the product."""

import argparse
from pathlib import Path

import torch

from benchmarks.device import measure_align, measure_compiled, measure_network
from benchmarks.network_floor import grid_of
from benchmarks.studies import write_study
from models.package import find_package

CPU = torch.device("cpu")


def test_networks_of_all_kinds_find_the_same() -> None:
    small = argparse.Namespace(small=True)
    for measure, kinds in ((measure_network, {"float32", "bfloat16", "worker"}), (measure_compiled, {"compiled"})):
        result = measure(CPU, small)
        assert kinds <= set(result["seconds"])
        # The sign changes where a logit of noise is near 0; where something is wrong, in a large part of the voxels.
        assert max(result["signs_changed"].values()) < 0.05


def test_a_coarse_head_is_aligned_and_has_a_grid(tmp_path: Path) -> None:
    dicom = write_study(tmp_path / "head", small=True)
    result = measure_align(CPU, argparse.Namespace(study=dicom))
    assert result["farthest_apart_mm"] == {"ADC": 0.0, "FLAIR": 0.0}
    package = find_package("phantom-demo", None)
    assert package is not None
    assert all(size % package.network.stride == 0 and 100 < size < 260 for size in grid_of(dicom, package))
