"""Segment volumes as the node does: align, normalise, segment, restore. Reads no files."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.labels import Role
from models.package import ModelPackage
from pipeline.align import AlignSettings, align
from pipeline.normalise import normalise
from pipeline.restore import restore
from pipeline.segment import segment
from pipeline.volume import Geometry, Volume

CPU = torch.device("cpu")
AS_IT_STANDS = AlignSettings(enabled=False)
"""For volumes that stand on one grid already."""


def predict(
    volumes: Mapping[Role, Volume],
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings,
    device: torch.device = CPU,
) -> NDArray[np.bool_]:
    """Masks (labels, slices, rows, columns) on the grid of T1CE, labels and thresholds those of the package.

    `network` is on `device`. Raises KeyError where a channel of the package, or T1CE, has no volume.
    """
    probabilities, grid = probabilities_of(volumes, package, network, alignment, device)
    thresholds = tuple(label.threshold for label in package.labels)
    return restore(probabilities, grid, volumes[Role.T1CE].geometry, thresholds)


def probabilities_of(
    volumes: Mapping[Role, Volume],
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings,
    device: torch.device = CPU,
) -> tuple[Tensor, Geometry]:
    """Probabilities (labels, slices, rows, columns) in the package's order on the model's grid, and that grid."""
    stride = package.network.stride
    aligned = align(volumes, package.channels, package.spacing_mm, stride, device, alignment)
    channels = normalise(aligned.channels, aligned.roles)
    segmented = segment(channels, network.to, device, stride, window=package.window)
    return segmented.probabilities, aligned.grid
