"""The cases of a data set as a source for training."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.package import ModelPackage
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.manifest import Split
from models.training.train.batches import EpochLoader, ProcessRank
from models.training.train.case_crops import CaseCrops, CropBatches, steps_per_epoch
from models.training.train.channel_dropout import as_network_input
from models.training.train.joined_sets import JoinedSets
from models.training.train.measured_subsets import smaller_subsets
from models.training.train.prepared_cases import Prepared, PreparedCases, View
from models.training.train.settings import SettingsContradict, TrainSettings
from models.training.train.thresholds import Masks, SegmentedCase
from pipeline.segment import segment


@dataclass(frozen=True, slots=True)
class DatasetCases:
    """Cases to train and to validate on; see `sources.CaseSource`. Thresholds are chosen on the validation cases."""

    endless: ClassVar[bool] = False
    dataset: Dataset | JoinedSets
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
            having = [case for case in self.train if label in case.labels]
            if label in self.dataset.labels and not any(case.masks((label,)).any() for case in having):
                raise SettingsContradict(
                    f"None of the {len(having)} training cases holds {label}, so the network would learn that it "
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
        return steps_per_epoch(self._weights, self.settings, processes)

    def batches(self, rank: ProcessRank, stride: int, steps_before: int) -> EpochLoader:
        """Return the crops of one process."""
        return EpochLoader(self.steps_per_epoch(rank.processes), self.crop_batches(rank, stride))

    def crop_batches(self, rank: ProcessRank, stride: int) -> CropBatches:
        """Return the batches of crops of one process, by epoch."""
        crops = CaseCrops(self.train, self.prepared, self.view, self.settings, stride)
        return CropBatches(crops, self._weights, self.settings, rank)

    @property
    def _weights(self) -> tuple[float, ...]:
        """How often each training case is seen in an epoch."""
        return tuple(self.dataset.weight(case) if isinstance(self.dataset, JoinedSets) else 1.0 for case in self.train)

    def validation_case(self, number: int) -> Prepared:
        """Return a validation case by its number."""
        return self.prepared(self.validation[number])

    def tuning_cases(self, package: ModelPackage, network: nn.Module, device: torch.device) -> Iterator[SegmentedCase]:
        """Segment the validation cases as the node does; masks are compared on the network's grid.

        A network with presence planes sees each case also with fewer channels, see `channel_subsets`.
        """
        network, roles = network.to(device).eval(), self.view.channels
        for case in self.validation:
            prepared = self.prepared(case)
            there = tuple(role for role, present in zip(roles, prepared.present, strict=True) if present)
            for seen in (there, *(smaller_subsets(there) if package.presence else ())):
                shown = torch.tensor([role in seen for role in roles])
                segmented = segment(
                    as_network_input(prepared.channels, shown, package.presence),
                    network.to, device, package.network, window=package.window, mirror=package.mirror,
                )  # fmt: skip
                network.to(device)  # a head that does not fit into the GPU's memory moves the network to the CPU
                yield SegmentedCase(
                    partial(_masks_at, segmented.probabilities.cpu()),
                    prepared.masks.numpy(),
                    tuple(prepared.known.tolist()),
                    channels=seen,
                    complete=seen == there,
                )

    def facts(self) -> Mapping[str, str | int]:
        """Return the form of the data sets, their fingerprint and the number of cases."""
        return {
            "trained_on": f"data set{'s' * isinstance(self.dataset, JoinedSets)} ({sets_in_words(self.dataset)})",
            "data_fingerprint": self.dataset.fingerprint,
            "training_cases": len(self.train),
            "validation_cases": len(self.validation),
            "thresholds_tuned_on": f"{len(self.validation)} validation cases",
        }


def _masks_at(probabilities: Tensor, threshold: float) -> Masks:
    return (probabilities >= threshold).numpy()


def sets_in_words(dataset: Dataset | JoinedSets) -> str:
    """Return the form of a data set, such as "dicom", or "general: brats, local: dicom x2" for several with weights."""
    if isinstance(dataset, Dataset):
        return dataset.manifest.source.value
    return ", ".join(
        f"{each.name}: {each.dataset.manifest.source.value}" + (f" x{each.weight:g}" if each.weight != 1 else "")
        for each in dataset.sets
    )


def fold_cases(
    dataset: Dataset | JoinedSets, folds: int, seed: int
) -> Iterator[tuple[tuple[Case, ...], tuple[Case, ...]]]:
    """Yield the training and the validation cases of each fold; the test cases are in none.

    All cases of a patient are on one side, and each patient is validated on once. Raises SettingsContradict if there
    are fewer patients than folds.
    """

    def person(case: Case) -> str:
        return dataset.person(case) if isinstance(dataset, JoinedSets) else case.patient

    cases = [case for case in dataset.cases if case.split is not Split.TEST]
    patients = sorted(
        {person(case) for case in cases}, key=lambda patient: hashlib.sha256(f"{seed} fold {patient}".encode()).digest()
    )
    if len(patients) < folds or folds < 2:
        raise SettingsContradict(f"{folds} folds of {len(patients)} patients: 2 folds at least, and a patient for each")
    for fold in range(folds):
        left_out = set(patients[fold::folds])
        yield (
            tuple(case for case in cases if person(case) not in left_out),
            tuple(case for case in cases if person(case) in left_out),
        )
