"""Segment volumes as the node does: align, normalise, segment, refine, restore. Reads no files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import DatasetSource
from pipeline.align import AlignSettings, align
from pipeline.alignment import RoleAlignment
from pipeline.normalise import normalise
from pipeline.refine import refine
from pipeline.restore import restore
from pipeline.segment import segment
from pipeline.volume import IDENTITY, Geometry, Matrix, Volume

CPU = torch.device("cpu")
_NO_MOTION = AlignSettings(enabled=False)


@dataclass(frozen=True, slots=True)
class OnModelGrid:
    """What the network saw of a case and what it answered, on its own grid."""

    probabilities: Tensor
    """(labels, slices, rows, columns), labels in the package's order."""
    grid: Geometry
    channels: Tensor
    """(roles, slices, rows, columns), in the units of the scans; NaN where a series has no value."""
    roles: tuple[Role, ...]
    alignments: tuple[RoleAlignment, ...]

    def to_series(self, role: Role) -> Matrix:
        """From T1CE's world, in which the grid stands, to that of a series."""
        return next((each.matrix for each in self.alignments if each.role is role), IDENTITY)

    def from_series(self, role: Role) -> Matrix:
        """And back."""
        return next((each.inverse for each in self.alignments if each.role is role), IDENTITY)


def on_the_nodes_grid(dataset: Dataset, package: ModelPackage) -> bool:
    """Whether cases stand on the very grid that the node makes for the package.

    `glionode dataset from-dicom` cuts and samples as the node does; at the package's spacing nothing is left to do.
    """
    return dataset.manifest.source is DatasetSource.DICOM and math.isclose(dataset.spacing_mm, package.spacing_mm)


def predict(
    volumes: Mapping[Role, Volume], package: ModelPackage, network: nn.Module, device: torch.device, ready: bool
) -> NDArray[np.bool_]:
    """Masks (labels, slices, rows, columns) of a case on its own grid, labels and thresholds those of the package.

    `ready`: see `on_the_nodes_grid`; the network then sees what it sees in the node, voxel for voxel. Else the case is
    cut to the head and sampled on the package's grid first. `network` is on `device`. Raises KeyError where a channel
    of the package, or T1CE, has no volume.
    """
    target = volumes[Role.T1CE].geometry
    if ready:
        raw = torch.from_numpy(np.stack([volumes[role].pixels for role in package.channels])).to(device)
        probabilities, grid = _segmented(raw, package, network, device), target
    else:
        probabilities, grid = probabilities_of(volumes, package, network, _NO_MOTION, device)
    return restore(probabilities, grid, target, tuple(label.threshold for label in package.labels))


def probabilities_of(
    volumes: Mapping[Role, Volume],
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings,
    device: torch.device = CPU,
) -> tuple[Tensor, Geometry]:
    """Probabilities (labels, slices, rows, columns) in the package's order on the model's grid, and that grid."""
    seen = on_model_grid(volumes, package, network, alignment, device)
    return seen.probabilities, seen.grid


def on_model_grid(
    volumes: Mapping[Role, Volume],
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings,
    device: torch.device = CPU,
) -> OnModelGrid:
    """Align, normalise, segment and refine; `network` is on `device`. Raises KeyError where a channel has no volume."""
    stride = package.network.stride
    aligned = align(volumes, package.channels, package.spacing_mm, stride, device, alignment)
    probabilities = _segmented(aligned.channels, package, network, device)
    return OnModelGrid(probabilities, aligned.grid, aligned.channels, aligned.roles, aligned.alignments)


def order_of_labels(package: ModelPackage) -> list[int]:
    """For each of LABELS, the package's output channel. Raises ValueError where the package lacks one."""
    names = [label.name for label in package.labels]
    return [names.index(label.name) for label in LABELS]


def _segmented(raw: Tensor, package: ModelPackage, network: nn.Module, device: torch.device) -> Tensor:
    channels = normalise(raw, package.channels)
    shape, window, mirror = package.network, package.window, package.mirror
    segmented = segment(channels, network.to, device, shape, window=window, mirror=mirror)
    return refine(segmented.probabilities, raw, package.channels, package.refinements)
