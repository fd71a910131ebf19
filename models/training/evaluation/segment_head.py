"""Scan a synthetic head on unlike grids, and segment the scans with the node's own steps."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.case_channels import needed_channels
from models.training.evaluation.predict import segment_volumes
from models.training.synthetic.head import SyntheticHead
from pipeline.align_settings import AlignSettings
from pipeline.alignment import as_matrix
from pipeline.volume import Geometry, Matrix, Volume

REGISTERED = AlignSettings()
"""The node's own way of aligning."""


def head_probabilities(
    head: SyntheticHead,
    package: ModelPackage,
    network: nn.Module,
    alignment: AlignSettings = REGISTERED,
    seen: tuple[Role, ...] | None = None,
) -> tuple[Tensor, Geometry, Geometry]:
    """Return probabilities of PAPER_LABELS (labels, slices, rows, columns) on the model's grid, that grid, and T1CE's.

    `network` is on the CPU. With `seen` the study has these series only; their scans are the same.
    """
    volumes = scan_head(head, needed_channels(package))
    shown = {role: volume for role, volume in volumes.items() if seen is None or role in seen}
    output = segment_volumes(shown, package, network, alignment, torch.device("cpu"))
    names = [label.name for label in package.labels]
    order = [names.index(label.name) for label in PAPER_LABELS]
    return output.probabilities[order], output.grid, volumes[Role.T1CE].geometry


def scan_head(head: SyntheticHead, roles: tuple[Role, ...]) -> Mapping[Role, Volume]:
    """Scan a head on unlike grids, drawn by its seed, with a little motion between T1CE and the other series."""
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
