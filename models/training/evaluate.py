"""Measure a model package on synthetic heads that no training ever saw, through the steps of the pipeline.

Conventions. Masks are compared on the T1CE grid, after restoring, by `evaluation.score`. Dice and HD95 are summed up
over the heads whose truth holds the label; what was found in heads without any lesion is reported as false-positive
volume. Lesions are counted over all heads. A label that is there and was not found at all has Dice 0.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from models.labels import LABELS, Role
from models.package import ModelPackage
from models.training.evaluation.lesions import LesionScore, pool
from models.training.evaluation.predict import probabilities_of
from models.training.evaluation.score import LabelScore, score_label
from models.training.samples import FIRST_HELD_OUT_SEED
from models.training.synthesis import SyntheticHead, synthesise
from models.training.tumour import Variant
from models.weights import load_network
from pipeline.align import AlignSettings
from pipeline.alignment import as_matrix
from pipeline.restore import restore
from pipeline.volume import Geometry, Matrix, Vector, Volume

Masks = NDArray[np.bool_]
"""(labels, slices, rows, columns)"""

REGISTERED = AlignSettings()
"""The node's own way of aligning."""


@dataclass(frozen=True, slots=True)
class HeadScore:
    """All labels in one head."""

    seed: int
    variant: Variant
    labels: tuple[LabelScore, ...]


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label over many heads."""

    label: str
    heads: int
    """Heads whose truth holds the label."""
    mean_dice: float | None
    """None where no head holds the label."""
    median_dice: float | None
    lowest_dice: float | None
    median_hd95_mm: float | None
    lesions: LesionScore
    """Of all heads."""
    lesion_free_heads: int
    lesion_free_ml: float | None
    """Mean volume found in heads without a lesion, where all of it is false; None without such heads."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A package measured on held-out heads."""

    package: ModelPackage
    first_seed: int
    heads: tuple[HeadScore, ...]
    labels: tuple[LabelSummary, ...]

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels of their mean Dice; None where no head holds any."""
        means = [label.mean_dice for label in self.labels if label.mean_dice is not None]
        return statistics.fmean(means) if means else None


def score_head(head_seed: int, variant: Variant, truth: Masks, found: Masks, spacing_mm: Vector) -> HeadScore:
    """Compare masks of LABELS on one grid."""
    return HeadScore(
        seed=head_seed,
        variant=variant,
        labels=tuple(
            score_label(label.name, true, guess, spacing_mm)
            for label, true, guess in zip(LABELS, truth, found, strict=True)
        ),
    )


def summarise(heads: Sequence[HeadScore], label: str) -> LabelSummary:
    """What the scores of one label come to."""
    scores = [(head, score) for head in heads for score in head.labels if score.label == label]
    there = [score for _, score in scores if score.is_there]
    values = [score.dice for score in there]
    free = [score.found_ml for head, score in scores if head.variant is Variant.LESION_FREE]
    return LabelSummary(
        label=label,
        heads=len(values),
        mean_dice=statistics.fmean(values) if values else None,
        median_dice=statistics.median(values) if values else None,
        lowest_dice=min(values) if values else None,
        median_hd95_mm=statistics.median(score.hd95_mm for score in there) if there else None,
        lesions=pool(score.lesions for _, score in scores),
        lesion_free_heads=len(free),
        lesion_free_ml=statistics.fmean(free) if free else None,
    )


def evaluate(
    package: ModelPackage,
    heads: int,
    first_seed: int,
    report: Callable[[HeadScore], None],
    spacing_mm: float = 1.0,
    alignment: AlignSettings = REGISTERED,
) -> Evaluation:
    """Scores of `heads` heads from `first_seed` on, the variants of heads taking turns.

    Raises ValueError for a seed that training may have used, and PackageBroken where the weights are.
    """
    if first_seed < FIRST_HELD_OUT_SEED:
        raise ValueError(f"seeds below {FIRST_HELD_OUT_SEED} are for training; evaluate on seeds from there on")
    network = load_network(package)
    scores = []
    for number in range(heads):
        variant = list(Variant)[number % len(Variant)]
        head = synthesise(first_seed + number, variant, spacing_mm)
        truth, found, geometry = segment_head(head, package, network, alignment)
        scores.append(score_head(head.seed, variant, truth, found, geometry.spacing_mm))
        report(scores[-1])
    summaries = tuple(summarise(scores, label.name) for label in LABELS)
    return Evaluation(package, first_seed, tuple(scores), summaries)


def segment_head(
    head: SyntheticHead, package: ModelPackage, network: nn.Module, alignment: AlignSettings = REGISTERED
) -> tuple[Masks, Masks, Geometry]:
    """Scan a head, walk it through align, normalise, segment and restore; truth and found on the T1CE grid."""
    probabilities, grid, target = head_probabilities(head, package, network, alignment)
    thresholds = {label.name: label.threshold for label in package.labels}
    found = restore(probabilities, grid, target, tuple(thresholds[label.name] for label in LABELS))
    return head.truth(target), found, target


def head_probabilities(
    head: SyntheticHead, package: ModelPackage, network: nn.Module, alignment: AlignSettings = REGISTERED
) -> tuple[Tensor, Geometry, Geometry]:
    """Probabilities of LABELS (labels, slices, rows, columns) on the model's grid, that grid, and the T1CE grid."""
    volumes = scan_head(head, package.channels)
    probabilities, grid = probabilities_of(volumes, package, network, alignment)
    by_name = {label.name: number for number, label in enumerate(package.labels)}
    order = [by_name[label.name] for label in LABELS]
    return probabilities[order], grid, volumes[Role.T1CE].geometry


def scan_head(head: SyntheticHead, roles: tuple[Role, ...]) -> dict[Role, Volume]:
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
