"""Measure a model package on the cases of a data set, case by case. Writes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.labels import Role
from models.package import ModelPackage
from models.training.dataset.dataset import Case, Dataset
from models.training.dataset.lineage import Lineage, Overlap, find_overlap, read_lineage
from models.training.dataset.manifest import Annotator, DatasetBroken, Split
from models.training.evaluation.lesions import count_foci
from models.training.evaluation.predict import on_the_nodes_grid, predict
from models.training.evaluation.score import LabelScore, score_label
from models.weights import load_network
from pipeline.volume import Geometry, Volume

Masks = NDArray[np.bool_]
"""(labels, slices, rows, columns)"""


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One case, measured."""

    case_id: str
    patient: str
    labels: tuple[LabelScore, ...]
    """Those of the package that a person drew in this case."""
    foci: int
    """Separate foci in the truth, see `count_foci`."""

    @property
    def mean_dice(self) -> float:
        """Over the labels."""
        return float(np.mean([score.dice for score in self.labels]))


@dataclass(frozen=True, slots=True)
class Compared:
    """One case with its images, for whoever draws it. Not kept: it is large."""

    score: CaseScore
    volumes: Mapping[Role, Volume]
    labels: tuple[str, ...]
    truth: Masks
    found: Masks
    """Both on the grid of the volumes."""
    geometry: Geometry


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case, or labels of it, that could not be measured, and why."""

    case_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured."""

    package: ModelPackage
    dataset: Dataset
    split: Split | None
    """None for all cases of the data set."""
    cases: tuple[CaseScore, ...]
    left_out: tuple[LeftOut, ...]
    learned: Lineage
    """What the package has seen before."""

    @property
    def overlap(self) -> Overlap:
        """How many of the patients the package has met before."""
        return find_overlap(self.learned, self.dataset.manifest.key, {case.patient for case in self.cases})

    @property
    def patients(self) -> int:
        """How many there are among the cases."""
        return len({case.patient for case in self.cases})


def measure_dataset(
    package: ModelPackage,
    dataset: Dataset,
    split: Split | None,
    device: torch.device,
    see: Callable[[Compared], None],
) -> Measured:
    """Scores of the cases of a split, in the order of their ids; `see` meets each as it is measured.

    A case that cannot be read does not end the others: it is left out by name. So is a label that the node drew itself
    and nobody corrected: a model agrees with its own work. Raises DatasetBroken where the data set lacks what the
    package needs, or has no case in the split, and PackageBroken where the package is.
    """
    chosen = dataset.cases if split is None else dataset.of(split)
    refuse_mismatch(package, dataset)
    if not chosen:
        raise DatasetBroken(f"{dataset.folder} has no case for {split}; `--split all` takes every one.")
    network, ready, learned = (
        load_network(package).to(device),
        on_the_nodes_grid(dataset, package),
        read_lineage(package),
    )
    scores: list[CaseScore] = []
    left_out: list[LeftOut] = []
    for case in chosen:
        labels = drawn_by_a_person(case, package)
        if own := [label.name for label in package.labels if label.name not in labels]:
            left_out.append(LeftOut(case.case_id, f"the node drew {', '.join(own)} itself; nobody corrected it"))
        if not labels:
            continue
        try:
            volumes = case.volumes(wanted_channels(package))
            truth = case.masks(labels)
        except DatasetBroken as exc:
            left_out.append(LeftOut(case.case_id, str(exc)))
            continue
        everything = predict(volumes, package, network, device, ready)
        names = [label.name for label in package.labels]
        found = everything[[names.index(label) for label in labels]]
        geometry = volumes[Role.T1CE].geometry
        score = score_case(case.case_id, case.patient, labels, truth, found, geometry)
        scores.append(score)
        see(Compared(score, volumes, labels, truth, found, geometry))
    return Measured(package, dataset, split, tuple(scores), tuple(left_out), learned)


def score_case(
    case_id: str, patient: str, labels: Sequence[str], truth: Masks, found: Masks, geometry: Geometry
) -> CaseScore:
    """Score masks of one case on one grid."""
    return CaseScore(
        case_id=case_id,
        patient=patient,
        labels=tuple(
            score_label(label, true, guess, geometry.spacing_mm)
            for label, true, guess in zip(labels, truth, found, strict=True)
        ),
        foci=count_foci(truth, geometry.voxel_volume_mm3),
    )


def wanted_channels(package: ModelPackage) -> tuple[Role, ...]:
    """What is read of a case: the package's channels, and T1CE, on whose grid all stands."""
    return package.channels if Role.T1CE in package.channels else (*package.channels, Role.T1CE)


def drawn_by_a_person(case: Case, package: ModelPackage) -> tuple[str, ...]:
    """Labels of the package that the node did not draw itself in this case, in the package's order."""
    by_node = {label for label, who in case.entry.annotators if who is Annotator.NODE}
    return tuple(label.name for label in package.labels if label.name not in by_node)


def refuse_mismatch(package: ModelPackage, dataset: Dataset) -> None:
    """Raise DatasetBroken where the data set lacks a channel or a label of the package."""
    channels = [role for role in wanted_channels(package) if role not in dataset.channels]
    labels = [label.name for label in package.labels if label.name not in dataset.labels]
    if channels or labels:
        raise DatasetBroken(
            f"Model {package.name} needs {', '.join((*channels, *labels))}, which {dataset.folder} does not have: its "
            f"channels are {', '.join(dataset.channels)}, its labels {', '.join(dataset.labels)}. "
            "Make the data set with these channels and labels, or take a model that was made for it."
        )
