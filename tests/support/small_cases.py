"""Make small data sets of random voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.labels import PAPER_LABELS, Role
from models.training.dataset.manifest import Annotator, DatasetSource
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, NewCase
from pipeline.volume import Geometry

ROLES = (Role.ADC, Role.FLAIR, Role.T1CE)
NAMES = tuple(label.name for label in PAPER_LABELS)
GRID = Geometry.axial((6, 8, 10), (1.0, 1.0, 1.0), (3.5, -7.25, 11.0), "")


def asymmetric(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return a mask that no shift, flip or swap of axes maps to itself."""
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-2, 2:-1] = np.random.default_rng(seed).random((shape[0] - 2, shape[1] - 3, shape[2] - 3)) < 0.4
    mask[1, 2, 3] = True
    return mask


def new_case(number: int, patient: str = "", grid: Geometry = GRID) -> NewCase:
    generator = np.random.default_rng(number)
    channels = {role: generator.normal(500, 200, grid.shape).astype(np.float32) for role in ROLES}
    channels[Role.ADC] = (np.abs(channels[Role.ADC]) + 600).astype(np.float32)
    channels[Role.ADC][0, 0, 0] = np.nan
    return NewCase(
        patient=patient or f"PATIENT-{number}",
        study=f"STUDY-{number}",
        grid=grid,
        channels=channels,
        masks={name: asymmetric(grid.shape, 10 * number + place) for place, name in enumerate(NAMES)},
        annotators=dict.fromkeys(NAMES, Annotator.PERSON),
    )


def lacking(case: NewCase, *names: str) -> NewCase:
    """Return a case without some of its channels and labels."""
    channels = {role: voxels for role, voxels in case.channels.items() if role not in names}
    masks = {label: mask for label, mask in case.masks.items() if label not in names}
    return replace(case, channels=channels, masks=masks)


def write_cases(folder: Path, *cases: NewCase, shares: Shares | None = None) -> None:
    """Write a data set with these cases, split by `shares`."""
    writer = DatasetWriter(folder, DatasetSource.DICOM, ROLES, NAMES, Pseudonyms(b"k" * 32))
    for case in cases:
        writer.add(case)
    writer.finish(shares or Shares(), seed=1)
