"""One synthetic head through the steps of the pipeline, and what was found compared with its truth.

Conventions. Masks are compared on the T1CE grid, after restoring, by `evaluation.score`. A label that is there and was
not found at all has Dice 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.predict import CPU, OnModelGrid, on_model_grid, order_of_labels
from models.training.evaluation.score import LabelScore, score_label
from models.training.synthetic.head import SyntheticHead
from pipeline.align import AlignSettings
from pipeline.alignment import as_matrix
from pipeline.restore import restore
from pipeline.volume import Geometry, Matrix, Vector, Volume

Masks = NDArray[np.bool_]
"""(labels, slices, rows, columns)"""

REGISTERED = AlignSettings()
"""The node's own way of aligning."""


@dataclass(frozen=True, slots=True)
class SegmentedHead:
    """Masks of LABELS on the T1CE grid, and how the network came to them."""

    truth: Masks
    found: Masks
    t1ce: Geometry
    seen: OnModelGrid


def score_masks(truth: Masks, found: Masks, spacing_mm: Vector) -> tuple[LabelScore, ...]:
    """Compare masks of LABELS on one grid."""
    return tuple(
        score_label(label.name, true, guess, spacing_mm)
        for label, true, guess in zip(LABELS, truth, found, strict=True)
    )


def thresholds_of(package: ModelPackage) -> tuple[float, ...]:
    """In the order of LABELS."""
    return tuple(package.labels[channel].threshold for channel in order_of_labels(package))


def segment_head(
    head: SyntheticHead,
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings = REGISTERED,
    device: torch.device = CPU,
) -> SegmentedHead:
    """Scan a head, walk it through align, normalise, segment and restore; `network` is on `device`."""
    seen, target = _walked(head, package, network, alignment, device)
    found = restore(seen.probabilities[order_of_labels(package)], seen.grid, target, thresholds_of(package))
    return SegmentedHead(head.truth(target), found, target, seen)


def head_probabilities(
    head: SyntheticHead, package: ModelPackage, network: nn.Module, alignment: AlignSettings = REGISTERED
) -> tuple[Tensor, Geometry, Geometry]:
    """Probabilities of LABELS (labels, slices, rows, columns) on the model's grid, that grid, and the T1CE grid."""
    seen, target = _walked(head, package, network, alignment, CPU)
    return seen.probabilities[order_of_labels(package)], seen.grid, target


def _walked(
    head: SyntheticHead, package: ModelPackage, network: nn.Module, alignment: AlignSettings, device: torch.device
) -> tuple[OnModelGrid, Geometry]:
    volumes = scan_head(head, tuple(dict.fromkeys([*package.channels, Role.T1CE])))
    return on_model_grid(volumes, package, network, alignment, device), volumes[Role.T1CE].geometry


def scan_head(head: SyntheticHead, roles: tuple[Role, ...]) -> Mapping[Role, Volume]:
    """Scans of a head on unlike grids, drawn by its seed, with a little motion between T1CE and the others."""
    generator = np.random.default_rng([head.seed, 4242])
    frame = head.geometry.frame_of_reference_uid
    thickness = generator.uniform(3, 5.5, size=2)
    geometries = {
        Role.T1CE: _sagittal(frame) if generator.random() < 0.5 else _axial(frame, 1.0, 1.2),
        Role.ADC: _axial(frame, 1.8, float(thickness[1])),
    }
    thick = _axial(frame, 0.9, float(thickness[0]))
    return {
        role: head.acquire(
            role,
            geometries.get(role, thick),
            None if role is Role.T1CE else _small_motion(generator),
            noise_seed=number,
        )
        for number, role in enumerate(roles)
    }


def _axial(frame: str, in_plane_mm: float, slice_mm: float) -> Geometry:
    shape = (round(165 / slice_mm), round(230 / in_plane_mm), round(200 / in_plane_mm))
    return Geometry.axial(shape, (slice_mm, in_plane_mm, in_plane_mm), (0.0, -4.0, 5.0), frame)


def _sagittal(frame: str) -> Geometry:
    # Slices from right to left, rows downwards, columns backwards, as 3D T1 is often scanned; it reaches into the neck.
    return Geometry((176, 240, 240), (-88.0, -124.0, 98.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), frame)


def _small_motion(generator: np.random.Generator) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", generator.normal(0, 1.2, size=3), degrees=True).as_matrix()
    matrix[:3, 3] = generator.normal(0, 1.2, size=3)
    return as_matrix(matrix)
