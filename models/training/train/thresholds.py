"""Choose thresholds on the validation cases, and say what they give there. Trains nothing."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from models.package import ModelPackage, OutputLabel
from models.training.dataset.dataset import Case
from models.training.train.lightning_module import dice
from models.training.train.prepared_cases import PreparedCases
from models.training.train.synthetic_thresholds import CANDIDATES, best_threshold
from pipeline.segment import segment


@dataclass(frozen=True, slots=True)
class LabelOnValidation:
    """One label over the validation cases."""

    label: str
    threshold: float
    dice: tuple[float, ...]
    """By case; 1 where truth and finding are both empty, 0 where one of them is."""
    empty: int
    """Cases whose truth lacks the label."""

    @property
    def mean_dice(self) -> float:
        """Over all cases."""
        return statistics.fmean(self.dice)


def tune(
    package: ModelPackage, network: nn.Module, cases: Iterable[Case], prepared: PreparedCases, device: torch.device
) -> tuple[LabelOnValidation, ...]:
    """For each label of `package`, the threshold of the highest mean Dice over `cases`.

    Whole heads go through `segment` as in the node; Dice is taken on the network's grid. Cases whose truth lacks a
    label do not vote on its threshold. Of near equals, the one nearest 0.5 wins.
    """
    network = network.to(device).eval()
    shape, window, mirror = package.network, package.window, package.mirror
    scores: list[list[list[float]]] = [[] for _ in package.labels]
    there: list[list[bool]] = [[] for _ in package.labels]
    for case in cases:
        seen = prepared(case)
        segmented = segment(seen.channels, network.to, device, shape, window=window, mirror=mirror)
        network.to(device)  # a head that the GPU had no room for took the network along to the CPU
        for number, (found, truth) in enumerate(zip(segmented.probabilities.cpu(), seen.masks, strict=True)):
            scores[number].append([dice(found >= candidate, truth) for candidate in CANDIDATES])
            there[number].append(bool(truth.any()))
    return tuple(
        _chosen(label, scores[number], there[number], package.labels[number].threshold)
        for number, label in enumerate(each.name for each in package.labels)
    )


def _chosen(label: str, scores: list[list[float]], there: list[bool], otherwise: float) -> LabelOnValidation:
    voting = [row for row, is_there in zip(scores, there, strict=True) if is_there]
    threshold = best_threshold(voting, otherwise)
    at = CANDIDATES.index(threshold)
    return LabelOnValidation(label, threshold, tuple(row[at] for row in scores), there.count(False))


def output_labels(tuned: Iterable[LabelOnValidation]) -> tuple[OutputLabel, ...]:
    """As a package names them."""
    return tuple(OutputLabel(each.label, each.threshold) for each in tuned)
