"""Data sets of toy heads: balls with a lesion that a network finds within a few steps."""

import os
import signal
from pathlib import Path

import numpy as np
import torch

from models.labels import PAPER_LABELS, Role
from models.training.dataset.manifest import Annotator, DatasetSource, Split
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, NewCase
from models.training.train.batches import Batch
from models.training.train.case_crops import CaseCrops, CropIndex
from pipeline.volume import Geometry

OURS = (Role.ADC, Role.FLAIR, Role.T1CE)
NAMES = tuple(label.name for label in PAPER_LABELS)
BRATS = (Role.T2, Role.FLAIR, Role.T1CE)
REGIONS = ("TC", "WT", "ET")
SPACING_MM = 4.0


def toy_case(
    number: int, roles: tuple[Role, ...] = OURS, labels: tuple[str, ...] = NAMES, edge: int = 36, name: str = ""
) -> NewCase:
    """Make one head; its labels are balls around the same centre."""
    generator = np.random.default_rng(number)
    grid = Geometry.axial((edge, edge, edge), (SPACING_MM,) * 3, (0.0, 0.0, 0.0), "")
    points = np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), axis=-1)
    head = np.linalg.norm(points - (edge - 1) / 2, axis=-1) < 0.42 * edge
    middle = (edge - 1) / 2 + generator.uniform(-0.12, 0.12, size=3) * edge
    distance = np.linalg.norm(points - middle, axis=-1)
    sizes = {"ET": 3, "TC": 5, "WT": 7, "tumour_core": 5, "whole_tumour": 7, **dict(zip(NAMES, (3, 5, 7), strict=True))}
    masks = {label: distance < sizes[label] * edge / 36 for label in labels}
    bright = {Role.T1: 3, Role.T1CE: 3, Role.T2: 5, Role.ADC: 5, Role.FLAIR: 7}
    channels = {}
    for role in roles:
        voxels = head * (800 + generator.normal(0, 40, head.shape)) + (distance < bright[role] * edge / 36) * 700
        channels[role] = voxels.astype(np.float32)
    patient = name or f"PATIENT-{number}"
    return NewCase(patient, f"STUDY-{number}", grid, channels, masks, dict.fromkeys(labels, Annotator.PERSON))


def toy_dataset(
    folder: Path,
    train: int = 4,
    validation: int = 2,
    roles: tuple[Role, ...] = OURS,
    labels: tuple[str, ...] = NAMES,
    edge: int = 36,
    first: int = 0,
    key: bytes = b"k" * 32,
) -> Path:
    """Write a data set of so many patients from number `first` on, one case each, and return its folder."""
    names = Pseudonyms(key)
    writer = DatasetWriter(folder, DatasetSource.DICOM, roles, labels, names)
    known = {}
    for number in range(first, first + train + validation):
        writer.add(toy_case(number, roles, labels, edge))
        known[names("patient", f"PATIENT-{number}")] = Split.TRAIN if number < first + train else Split.VALIDATION
    writer.finish(Shares(), seed=1, known=known)
    return folder


class IndexCrops(CaseCrops):
    """Returns the index of a crop instead of the crop."""

    def __init__(self) -> None:
        pass

    def __getitem__(self, index: CropIndex) -> Batch:
        return Batch(torch.tensor([index.epoch, index.position, index.case]), torch.zeros(1), torch.zeros(1))


class InterruptedCrops(IndexCrops):
    """Also interrupts its own process, as Ctrl-C does."""

    def __getitem__(self, index: CropIndex) -> Batch:
        os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(index)
