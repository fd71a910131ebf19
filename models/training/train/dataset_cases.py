"""The cases of a data set as a source for training."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.package import ModelPackage
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import Split
from models.training.train.batches import EpochLoader, ProcessRank
from models.training.train.case_crops import CaseCrops, CropBatches, steps_per_epoch
from models.training.train.prepared_cases import Prepared, PreparedCases, View
from models.training.train.settings import SettingsContradict, TrainSettings
from models.training.train.thresholds import Masks, SegmentedCase
from pipeline.segment import segment


@dataclass(frozen=True, slots=True)
class DatasetCases:
    """Cases to train and to validate on; see `sources.CaseSource`. Thresholds are chosen on the validation cases."""

    endless: ClassVar[bool] = False
    dataset: Dataset
    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    prepared: PreparedCases
    view: View
    settings: TrainSettings

    def __post_init__(self) -> None:
        for name, cases in (("training", self.train), ("validation", self.validation)):
            if not cases:
                raise SettingsContradict(
                    f"The data set has no {name} cases; make it again with a split that leaves some for {name}"
                )
        for label in self.view.labels:
            if label in self.dataset.labels and not any(case.masks((label,)).any() for case in self.train):
                raise SettingsContradict(
                    f"None of the {len(self.train)} training cases holds {label}, so the network would learn that it "
                    "never occurs; make the data set again without it, or with cases that have it"
                )

    @property
    def identity(self) -> str:
        """Return the fingerprint of the data set."""
        return self.dataset.fingerprint

    @property
    def validation_cases(self) -> int:
        """Return how many cases each epoch is validated on."""
        return len(self.validation)

    def steps_per_epoch(self, processes: int) -> int:
        """Return the optimiser steps of one pass over the training cases."""
        return steps_per_epoch(len(self.train), self.settings, processes)

    def batches(self, rank: ProcessRank, stride: int, steps_before: int) -> EpochLoader:
        """Return the crops of one process."""
        return EpochLoader(self.steps_per_epoch(rank.processes), self.crop_batches(rank, stride))

    def crop_batches(self, rank: ProcessRank, stride: int) -> CropBatches:
        """Return the batches of crops of one process, by epoch."""
        crops = CaseCrops(self.train, self.prepared, self.view, self.settings, stride)
        return CropBatches(crops, len(self.train), self.settings, rank)

    def validation_case(self, number: int) -> Prepared:
        """Return a validation case by its number."""
        return self.prepared(self.validation[number])

    def tuning_cases(self, package: ModelPackage, network: nn.Module, device: torch.device) -> Iterator[SegmentedCase]:
        """Segment the validation cases as the node does; masks are compared on the network's grid."""
        network = network.to(device).eval()
        for case in self.validation:
            prepared = self.prepared(case)
            segmented = segment(
                prepared.channels, network.to, device, package.network, window=package.window, mirror=package.mirror
            )
            network.to(device)  # a head that does not fit into the GPU's memory moves the network to the CPU
            yield _segmented_case(segmented.probabilities.cpu(), prepared.masks.numpy())

    def facts(self) -> Mapping[str, str | int]:
        """Return the form of the data set, its fingerprint and the number of cases."""
        manifest = self.dataset.manifest
        return {
            "trained_on": f"data set ({manifest.source.value})",
            "data_fingerprint": manifest.fingerprint,
            "training_cases": len(self.train),
            "validation_cases": len(self.validation),
            "thresholds_tuned_on": f"{len(self.validation)} validation cases",
        }


def _segmented_case(probabilities: Tensor, truth: Masks) -> SegmentedCase:
    return SegmentedCase(lambda threshold: (probabilities >= threshold).numpy(), truth)


def fold_cases(dataset: Dataset, folds: int, seed: int) -> Iterator[tuple[tuple[Case, ...], tuple[Case, ...]]]:
    """Yield the training and the validation cases of each fold; the test cases are in none.

    All cases of a patient are on one side, and each patient is validated on once. Raises SettingsContradict if there
    are fewer patients than folds.
    """
    cases = [case for case in dataset.cases if case.split is not Split.TEST]
    patients = sorted(
        {case.patient for case in cases}, key=lambda patient: hashlib.sha256(f"{seed} fold {patient}".encode()).digest()
    )
    if len(patients) < folds or folds < 2:
        raise SettingsContradict(f"{folds} folds of {len(patients)} patients: 2 folds at least, and a patient for each")
    for fold in range(folds):
        left_out = set(patients[fold::folds])
        yield (
            tuple(case for case in cases if case.patient not in left_out),
            tuple(case for case in cases if case.patient in left_out),
        )
