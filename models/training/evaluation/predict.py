"""Segment volumes with the node's own steps: align, normalise, segment, refine, restore. Reads no files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import DatasetSource
from models.training.evaluation.score import Masks
from pipeline.align import align
from pipeline.align_settings import AlignSettings
from pipeline.alignment import RoleAlignment
from pipeline.normalise import normalise
from pipeline.presence import study_input
from pipeline.reference import reference_on_one_grid
from pipeline.refine import refine
from pipeline.restore import restore
from pipeline.segment import segment
from pipeline.volume import IDENTITY, Geometry, Matrix, Volume

NOT_ALIGNED = AlignSettings(enabled=False)
"""For volumes that stand on one grid already."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The network's input and output for one case, on the network's grid."""

    probabilities: Tensor
    """(labels, slices, rows, columns), labels in the package's order."""
    grid: Geometry
    channels: Tensor
    """(roles, slices, rows, columns), in the units of the scans; NaN where a series has no value."""
    roles: tuple[Role, ...]
    """The channels of the package that the case has."""
    alignments: tuple[RoleAlignment, ...]

    def to_series(self, role: Role) -> Matrix:
        """Return the transform from T1CE's world, in which the grid stands, to the world of a series."""
        return next((each.matrix for each in self.alignments if each.role is role), IDENTITY)

    def from_series(self, role: Role) -> Matrix:
        """Return the transform from the world of a series to T1CE's world, the inverse of `to_series`."""
        return next((each.inverse for each in self.alignments if each.role is role), IDENTITY)


def is_on_node_grid(dataset: Dataset, package: ModelPackage) -> bool:
    """Return whether the cases of a data set stand on the very grid that the node makes for the package.

    `glionode dataset from-dicom` cuts and samples as the node does; at the package's spacing nothing is left to do.
    """
    return dataset.manifest.source is DatasetSource.DICOM and math.isclose(dataset.spacing_mm, package.spacing_mm)


def predict(
    volumes: Mapping[Role, Volume], package: ModelPackage, network: nn.Module, device: torch.device, on_node_grid: bool
) -> Masks:
    """Return the masks of a case of a data set on its own grid, labels and thresholds those of the package."""
    output = segment_on_one_grid(volumes, package, network, device, on_node_grid)
    grid = volumes[reference_on_one_grid(volumes)].geometry
    return restore_labels(output, package, [label.name for label in package.labels], grid)


def segment_on_one_grid(
    volumes: Mapping[Role, Volume], package: ModelPackage, network: nn.Module, device: torch.device, on_node_grid: bool
) -> ModelOutput:
    """Segment a case whose volumes stand on one grid; `network` is on `device`.

    With `on_node_grid`, see `is_on_node_grid`, the network gets the voxels as they are, the same that it gets in the
    node. Else the case is cut to the head and sampled on the package's grid first. Raises KeyError where a channel that
    the package requires has no volume; optional ones may lack it.
    """
    if not on_node_grid:
        return segment_volumes(volumes, package, network, NOT_ALIGNED, device)
    roles = _roles_there(volumes, package)
    raw = torch.from_numpy(np.stack([volumes[role].pixels for role in roles])).to(device)
    probabilities = _segment(raw, roles, package, network, device)
    return ModelOutput(probabilities, volumes[roles[0]].geometry, raw, roles, ())


def segment_volumes(
    volumes: Mapping[Role, Volume],
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings,
    device: torch.device,
) -> ModelOutput:
    """Align, normalise, segment and refine; `network` is on `device`.

    Raises KeyError where a channel that the package requires has no volume; optional ones may lack it.
    """
    roles, stride = _roles_there(volumes, package), package.network.stride
    aligned = align(volumes, roles, package.spacing_mm, stride, device, alignment)
    probabilities = _segment(aligned.channels, roles, package, network, device)
    return ModelOutput(probabilities, aligned.grid, aligned.channels, aligned.roles, aligned.alignments)


def restore_labels(
    output: ModelOutput,
    package: ModelPackage,
    labels: Sequence[str],
    target: Geometry,
    target_to_grid: Matrix = IDENTITY,
) -> Masks:
    """Return what the model found of some labels on a grid; `target_to_grid` maps its world to that of T1CE."""
    names = [label.name for label in package.labels]
    channels = [names.index(label) for label in labels]
    thresholds = tuple(package.labels[channel].threshold for channel in channels)
    return restore(output.probabilities[channels], output.grid, target, thresholds, target_to_grid)


def _roles_there(volumes: Mapping[Role, Volume], package: ModelPackage) -> tuple[Role, ...]:
    """Return the channels of the package that have a volume. Raises KeyError for a required one without."""
    for role in package.required:
        volumes[role]
    return tuple(role for role in package.channels if role in volumes)


def _segment(
    raw: Tensor, roles: tuple[Role, ...], package: ModelPackage, network: nn.Module, device: torch.device
) -> Tensor:
    """Return the probabilities; `raw` is (roles, slices, rows, columns). Other channels of the package are absent."""
    channels = study_input(normalise(raw, roles), roles, package.channels, package.presence)
    shape, window, mirror = package.network, package.window, package.mirror
    segmented = segment(channels, network.to, device, shape, window=window, mirror=mirror)
    return refine(segmented.probabilities, raw, roles, package.refinements)
