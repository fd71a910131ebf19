"""Sum up measured cases by group (a family of synthetic heads, or real ones), variant and label. Measures nothing.

Conventions. Dice and HD95 are summed up over the cases whose truth holds the label; a label that is there and was not
found at all has Dice 0. Lesions are counted over all cases of the group that have a lesion. Heads without a lesion are
summed up by the volume that was found in them, all of which is false.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.labels import LABELS
from models.package import ModelPackage
from models.training.evaluation.lesions import LesionScore, pool
from models.training.evaluation.score import LabelScore
from models.training.evaluation.synthetic_cases import Case, Head
from models.training.synthetic.tumour import Variant

HIGH_PERCENTILE = 95.0
ALL = "all"


@dataclass(frozen=True, slots=True)
class Scored:
    """One case, measured."""

    case: Case
    labels: tuple[LabelScore, ...]

    @property
    def is_lesion_free(self) -> bool:
        """Whether all that is found in it is false."""
        return isinstance(self.case, Head) and self.case.variant is Variant.LESION_FREE

    @property
    def mean_dice(self) -> float | None:
        """Over the labels that are there; None where none is."""
        there = [score.dice for score in self.labels if score.is_there]
        return statistics.fmean(there) if there else None


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label over some cases."""

    label: str
    cases: int
    """Those whose truth holds the label."""
    median_dice: float | None
    """None where no case holds the label; so are the other three."""
    mean_dice: float | None
    lowest_dice: float | None
    median_hd95_mm: float | None
    lesions: LesionScore


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """What was found of one label in heads without a lesion."""

    label: str
    median_ml: float
    high_ml: float
    """The 95th percentile, interpolated linearly."""
    highest_ml: float
    lesions: int
    """Found in all of them together."""


@dataclass(frozen=True, slots=True)
class LesionFree:
    """The heads without a lesion of one family, or of all."""

    group: str
    heads: int
    labels: tuple[FalsePositives, ...]


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The heads of one variant in a family."""

    variant: str
    cases: int
    labels: tuple[LabelSummary, ...]


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """The cases with a lesion of a group."""

    group: str
    cases: int
    labels: tuple[LabelSummary, ...]
    variants: tuple[VariantSummary, ...]
    """None of studies."""

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels of their mean Dice; None where no case holds any."""
        means = [label.mean_dice for label in self.labels if label.mean_dice is not None]
        return statistics.fmean(means) if means else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A package, measured case by case."""

    package: ModelPackage
    cases: tuple[Scored, ...]
    left_out: tuple[tuple[Case, str], ...]
    """Cases that could not be measured, and why."""
    spacing_mm: float = 1.0
    """In which synthetic heads were made."""

    @property
    def groups(self) -> tuple[GroupSummary, ...]:
        """In the order in which they were measured."""
        with_lesion = [case for case in self.cases if not case.is_lesion_free]
        return tuple(
            summarise_group(group, [case for case in with_lesion if case.case.group == group])
            for group in dict.fromkeys(case.case.group for case in with_lesion)
        )

    @property
    def lesion_free(self) -> tuple[LesionFree, ...]:
        """By family, and of all together where there are several."""
        free = [case for case in self.cases if case.is_lesion_free]
        families = dict.fromkeys(case.case.group for case in free)
        parts = [(name, [case for case in free if case.case.group == name]) for name in families]
        return tuple(summarise_free(name, part) for name, part in [*parts, *([(ALL, free)] if len(parts) > 1 else [])])


def summarise_group(group: str, cases: Sequence[Scored]) -> GroupSummary:
    """What the scores of cases with a lesion come to."""
    by_variant: dict[Variant, list[Scored]] = {}
    for scored in cases:
        if isinstance(scored.case, Head):
            by_variant.setdefault(scored.case.variant, []).append(scored)
    variants = tuple(
        VariantSummary(variant.value, len(by_variant[variant]), _labels(by_variant[variant]))
        for variant in Variant
        if variant in by_variant
    )
    return GroupSummary(group, len(cases), _labels(cases), variants)


def summarise_label(label: str, cases: Sequence[Scored]) -> LabelSummary:
    """What the scores of one label come to."""
    scores = [score for case in cases for score in case.labels if score.label == label]
    there = [score for score in scores if score.is_there]
    values = [score.dice for score in there]
    return LabelSummary(
        label=label,
        cases=len(values),
        median_dice=statistics.median(values) if values else None,
        mean_dice=statistics.fmean(values) if values else None,
        lowest_dice=min(values) if values else None,
        median_hd95_mm=statistics.median(score.hd95_mm for score in there) if there else None,
        lesions=pool(score.lesions for score in scores),
    )


def summarise_free(group: str, cases: Sequence[Scored]) -> LesionFree:
    """What was found in heads, at least one, that have no lesion."""
    labels = []
    for label in LABELS:
        scores = [score for case in cases for score in case.labels if score.label == label.name]
        found = [score.found_ml for score in scores]
        labels.append(
            FalsePositives(
                label=label.name,
                median_ml=statistics.median(found),
                high_ml=float(np.percentile(found, HIGH_PERCENTILE)),
                highest_ml=max(found),
                lesions=pool(score.lesions for score in scores).found,
            )
        )
    return LesionFree(group, len(cases), tuple(labels))


class Place(StrEnum):
    """Which case stands for a group."""

    BEST = "best"
    MEDIAN = "median"
    WORST = "worst"


def representatives(cases: Sequence[Scored]) -> tuple[tuple[Place, Scored], ...]:
    """By mean Dice over the labels that are there; of an even number the lower median, and no case twice."""
    ranked = sorted(
        ((scored.mean_dice, scored.case.case_id, scored) for scored in cases if scored.mean_dice is not None),
        key=lambda each: each[:2],
    )
    if not ranked:
        return ()
    middle = (len(ranked) - 1) // 2
    chosen: dict[int, Place] = {}
    for index, place in ((len(ranked) - 1, Place.BEST), (0, Place.WORST), (middle, Place.MEDIAN)):
        chosen.setdefault(index, place)
    order = list(Place)
    return tuple(
        (place, ranked[index][2]) for index, place in sorted(chosen.items(), key=lambda each: order.index(each[1]))
    )


def _labels(cases: Sequence[Scored]) -> tuple[LabelSummary, ...]:
    return tuple(summarise_label(label.name, cases) for label in LABELS)
