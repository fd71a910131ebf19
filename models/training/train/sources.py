"""Sources of cases: what a network is trained on, validated on, and what its thresholds are chosen on."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol

import torch
from torch import nn

from models.package import ModelPackage
from models.training.train.batches import EpochLoader, ProcessRank
from models.training.train.prepared_cases import Prepared, View
from models.training.train.thresholds import SegmentedCase


class CaseSource(Protocol):
    """Cases for the training loop, whether from a data set (`dataset_cases`) or made up (`synthetic_heads`).

    The loop knows nothing else of its cases, so that a source may also draw from several others.
    """

    endless: ClassVar[bool]
    """Whether cases never repeat. A run on such cases may be resumed with other settings or more feature maps."""

    @property
    def view(self) -> View:
        """Channels, labels and grid of all cases."""

    @property
    def identity(self) -> str:
        """What the cases are, in a word that a checkpoint has to agree with."""

    @property
    def validation_cases(self) -> int:
        """How many cases each epoch is validated on; 0 leaves the last epoch as the best."""

    def steps_per_epoch(self, processes: int) -> int:
        """Return the optimiser steps of an epoch that `processes` share."""

    def batches(self, rank: ProcessRank, stride: int, steps_before: int) -> EpochLoader:
        """Return the batches of one process. Sizes are multiples of `stride`.

        `steps_before` were trained by the runs that this one resumes; an endless source does not repeat their cases.
        """

    def validation_case(self, number: int) -> Prepared:
        """Return a case to validate on; `number` counts from 0."""

    def tuning_cases(self, package: ModelPackage, network: nn.Module, device: torch.device) -> Iterator[SegmentedCase]:
        """Segment the cases on which thresholds are chosen; labels in the order of the package."""

    def facts(self) -> Mapping[str, str | int]:
        """Return what the package's provenance says of the cases."""
